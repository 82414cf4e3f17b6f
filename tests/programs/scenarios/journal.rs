//! A program that takes long enough to be interrupted, and whose results show whatever is lost, doubled or exchanged.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use rankfold::World;

use super::Outcome;

/// The first argument is the number of milliseconds of work, the second what happens on the way.
pub fn play(world: &World, scenario: &str, arguments: &[String]) -> Option<Outcome> {
    let millis = arguments.first().and_then(|text| text.parse().ok()).unwrap_or(1000);
    match scenario {
        "journaled" => Some(journaled(world, millis)),
        "journaled-then-other" => Some(journaled(world, 10).and_then(|()| other(world))),
        "unwritable" => Some(unwritable(world)),
        _ => None,
    }
}

/// A sum that rounds, a list in order, and text that does not commute; each item sleeps for half a millisecond.
fn journaled(world: &World, millis: u64) -> Outcome {
    let items = (2 * millis / 3).max(1);
    let tally = Tally::new();
    let pause = || {
        std::thread::sleep(Duration::from_micros(500));
        tally.count();
    };
    let sum = world.over(0..items).named("sum").map_reduce(
        |item| {
            pause();
            1.0 / (1.0 + item as f64)
        },
        |left, right| left + right,
    )?;
    let list = world.over(0..items).named("list").map(|item| {
        pause();
        item * item
    })?;
    let text = world.over(0..items).named("text").map_reduce(
        |item| {
            pause();
            format!("{item},")
        },
        |left, right| left + &right,
    )?;
    if world.is_root() {
        let list = list.iter().fold(0u64, |hash, square| hash.wrapping_mul(31).wrapping_add(*square));
        println!("{:016x} {list:016x} {:08x}", sum.to_bits(), fingerprint(&text));
    }
    Ok(())
}

/// A byte for each item that this process has computed, where `TALLY` names a folder: what was done more than once.
struct Tally(Option<Mutex<File>>);

impl Tally {
    fn new() -> Self {
        let file = std::env::var_os("TALLY").map(|folder| {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            let name = format!("{host}-{}", std::process::id());
            let file = File::options().create(true).append(true).open(PathBuf::from(folder).join(name));
            Mutex::new(file.expect("a folder that may be written"))
        });
        Self(file)
    }

    fn count(&self) {
        if let Some(file) = &self.0 {
            file.lock().expect("nobody panics here").write_all(b".").expect("there is room");
        }
    }
}

/// A call that no earlier job of this program has made at this place.
fn other(world: &World) -> Outcome {
    let length = if std::env::var_os("SHORTER").is_some() { 10u64 } else { 11 };
    world.over(0..length).named("other").for_each(|_| {})?;
    Ok(())
}

/// Partials that cannot be written as bytes: the journal cannot hold them, and one rank does not need to.
fn unwritable(world: &World) -> Outcome {
    use serde::{Deserialize, Serialize, Serializer, ser::Error};
    #[derive(Deserialize)]
    struct Secret(u64);
    impl Serialize for Secret {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(S::Error::custom("it is secret"))
        }
    }
    let slow = |item: u64| {
        std::thread::sleep(Duration::from_millis(1));
        Secret(item)
    };
    let sum = world.over(0..500u64).named("secret").map_reduce(slow, |left, right| Secret(left.0 + right.0))?;
    println!("{}", sum.0);
    Ok(())
}

fn fingerprint(text: &str) -> u32 {
    text.bytes().fold(0, |hash: u32, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)))
}
