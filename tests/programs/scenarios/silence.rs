//! A rank stops in the middle of a call, as a swapped-out process or a node in trouble does: it neither ends nor answers.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rankfold::World;
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize, Serializer};

use super::results::agree_and_print;
use super::{Outcome, add, keyed};

/// The arguments are the rank that stops, and after how many seconds it wakes up, if it does.
pub fn play(world: &World, scenario: &str, arguments: &[String]) -> Option<Outcome> {
    let number = |at: usize| arguments.get(at).and_then(|text: &String| text.parse().ok());
    let is_victim = number(0).is_some_and(|victim: u64| victim == world.rank() as u64);
    match scenario {
        "stops" => Some(stops(world, is_victim, number(1))),
        "stops-before-a-failure" => Some(stops(world, is_victim, None).and_then(|()| fails(world, number(1)))),
        "stops-before-a-panic" => Some(stops_before_a_panic(world, is_victim)),
        "stops-in-parts" => Some(stops_in_parts(world, is_victim, number(1))),
        "stops-in-a-meeting" => Some(stops_in_a_meeting(world, is_victim)),
        "enters-late" => Some(enters_late(world, is_victim)),
        "dawdles" => Some(dawdles(world, is_victim)),
        "stops-in-reduction" => Some(stops_in_reduction(world, is_victim)),
        _ => None,
    }
}

/// The victim stops when it has come to a meeting; rank 3 comes late.
fn stops_in_a_meeting(world: &World, is_victim: bool) -> Outcome {
    if is_victim {
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(500));
            stop(None);
        });
    }
    if world.rank() == 3 {
        std::thread::sleep(Duration::from_secs(7));
    }
    let mine: f64 = 1.0;
    world.all_reduce(&mine, rankfold::op::sum)?;
    Ok(())
}

/// The same with partials that are merged part by part, of which the lost rank gets none.
fn stops_in_parts(world: &World, is_victim: bool, wake: Option<u64>) -> Outcome {
    let (stopped, begun) = (AtomicBool::new(!is_victim), Instant::now());
    let lines = keyed::all(world, 2000, || {
        if begun.elapsed() > Duration::from_millis(200) && !stopped.swap(true, Ordering::Relaxed) {
            stop(wake);
        }
    })?;
    if wake.is_some() {
        // Long enough for who was given up to come back, and to have the same results as all others.
        world.over(0..100u64).named("meanwhile").for_each(|_| std::thread::sleep(Duration::from_millis(200)))?;
        return Ok(agree_and_print(world, &lines)?);
    }
    if world.is_root() {
        lines.iter().for_each(|line| println!("{line}"));
    }
    Ok(())
}

/// Four seconds of work on one core; the victim stops after a while.
fn stops(world: &World, is_victim: bool, wake: Option<u64>) -> Outcome {
    let (stopped, begun) = (AtomicBool::new(!is_victim), Instant::now());
    let mapper = |item| {
        std::thread::sleep(Duration::from_millis(1));
        if begun.elapsed() > Duration::from_millis(200) && !stopped.swap(true, Ordering::Relaxed) {
            stop(wake);
        }
        item
    };
    let sum = world.over(0..4000u64).named("energy").map_reduce(mapper, add)?;
    let list = world.over(0..200_000u64).named("list").map(|item| item)?;
    if world.is_root() {
        println!("{sum} {}", list.into_iter().sum::<u64>());
    }
    Ok(())
}

/// An error of the program on one rank, or of a call on all of them.
fn fails(world: &World, culprit: Option<u64>) -> Outcome {
    if culprit == Some(world.rank() as u64) {
        return Err("the disk is full".into());
    }
    if culprit.is_none() {
        world.over(0..0u64).named("nothing").map_reduce(|item| item, add)?;
    }
    Ok(())
}

/// The victim stops, is given up, and what it had done is done again, where a mapper panics.
fn stops_before_a_panic(world: &World, is_victim: bool) -> Outcome {
    let (stopped, begun) = (AtomicBool::new(!is_victim), Instant::now());
    let mapper = |item| {
        std::thread::sleep(Duration::from_millis(1));
        if begun.elapsed() > Duration::from_millis(200) && !stopped.swap(true, Ordering::Relaxed) {
            stop(None);
        }
        assert!(begun.elapsed() < Duration::from_millis(3100), "too late");
        item
    };
    world.over(0..4000u64).named("energy").map_reduce(mapper, add)?;
    Ok(())
}

/// The victim has other things to do between two calls, for longer than silence is borne inside of one.
fn enters_late(world: &World, is_victim: bool) -> Outcome {
    let first = world.over(0..1000u64).named("first").map_reduce(|item| item, add)?;
    if is_victim {
        std::thread::sleep(Duration::from_secs(5));
    }
    let second = world.over(0..1000u64).named("second").map_reduce(|item| item, add)?;
    if world.is_root() {
        println!("{first} {second}");
    }
    Ok(())
}

/// On the victim one item takes far longer than its patience; on the others it takes no time, so they get it as well.
fn dawdles(world: &World, is_victim: bool) -> Outcome {
    let dawdled = AtomicBool::new(!is_victim);
    let mapper = |item| {
        std::thread::sleep(Duration::from_millis(1));
        if !dawdled.swap(true, Ordering::Relaxed) {
            std::thread::sleep(Duration::from_secs(8));
        }
        item
    };
    let sum = world.over(0..4000u64).named("energy").map_reduce(mapper, add)?;
    if world.is_root() {
        println!("{sum}");
    }
    Ok(())
}

/// The victim stops when its partial is asked for, which is when all ranks wait for it.
fn stops_in_reduction(world: &World, is_victim: bool) -> Outcome {
    STOPS.store(is_victim, Ordering::Relaxed);
    // Long enough that every rank has computed something when it is asked for it.
    let mapper = |item| {
        std::thread::sleep(Duration::from_millis(1));
        Trap(item)
    };
    world.over(0..2000u64).named("energy").map_reduce(mapper, |left, _| left)?;
    Ok(())
}

static STOPS: AtomicBool = AtomicBool::new(false);

#[derive(Deserialize)]
struct Trap(u64);

impl Serialize for Trap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if STOPS.swap(false, Ordering::Relaxed) {
            stop(None);
        }
        self.0.serialize(serializer)
    }
}

/// Stops this process; another one wakes it up after so many seconds.
pub fn stop(wake: Option<u64>) {
    let this = std::process::id();
    if let Some(seconds) = wake {
        // The shell ends at once and leaves the alarm behind.
        let alarm = format!("(sleep {seconds}; kill -CONT {this}) &");
        let mut shell = Command::new("sh");
        shell.args(["-c", &alarm]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(shell.status().is_ok_and(|status| status.success()), "there is a shell");
    }
    let _ = kill_process(getpid(), Signal::STOP);
}
