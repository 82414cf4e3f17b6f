//! A rank leaves the program while the others are in a call.

use rustix::process::{Signal, getpid, kill_process};
use std::time::Duration;

use rankfold::World;

use super::{Outcome, add};

/// The argument is the rank that leaves.
pub fn play(world: &World, scenario: &str, arguments: &[String]) -> Option<Outcome> {
    let leave: fn(&World) -> Outcome = match scenario {
        "returns" => |_| Ok(()),
        "fails" => |_| Err(other_failure()),
        "exits" => |_| std::process::exit(0),
        "exits-with-3" => |_| std::process::exit(3),
        "panics" => |_| panic!("out of luck"),
        "panics-in-thread" => |_| {
            let ended = std::thread::spawn(|| panic!("out of luck")).join();
            std::panic::resume_unwind(ended.unwrap_err())
        },
        "is-killed" => |_| {
            let _ = kill_process(getpid(), Signal::KILL);
            std::thread::sleep(Duration::from_secs(60));
            Ok(())
        },
        _ => return None,
    };
    let leaver = arguments.first().and_then(|rank| rank.parse().ok()).unwrap_or(1);
    Some(depart(world, leaver, leave))
}

fn depart(world: &World, leaver: usize, leave: fn(&World) -> Outcome) -> Outcome {
    world.over(0..100u64).named("mass").map_reduce(|i| i, add)?;
    if world.rank() == leaver {
        // The others are in the call by now.
        std::thread::sleep(Duration::from_millis(200));
        return leave(world);
    }
    world.over(0..1000u64).named("energy").map_reduce(|i| i, add)?;
    Ok(())
}

/// An error of Rankfold that is this rank's alone.
fn other_failure() -> Box<dyn std::error::Error> {
    let alone = World::local(1).and_then(|world| world.over(0..0u64).named("alone").map_reduce(|i| i, add));
    alone.unwrap_err().into()
}
