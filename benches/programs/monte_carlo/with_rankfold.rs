//! The Monte Carlo of `by_hand.rs` with Rankfold.

use std::time::Instant;

use crate::kernel::{Shape, count_inside};

pub(crate) fn run(arguments: &[String]) -> rankfold::Result<()> {
    let shape = Shape::from_argument(&arguments[0]);
    let blocks: u64 = arguments[1].parse().expect("a number of blocks");

    let called = Instant::now();
    let world = rankfold::init()?;
    let start = Instant::now();
    let count = |block| count_inside(block, shape.points(block, blocks));
    if let Some(total) = world.over(0..blocks).on_root().map_reduce(count, |a, b| a + b)? {
        let [seconds, from_call] = [start, called].map(|moment| moment.elapsed().as_secs_f64());
        println!("seconds={seconds} from_call={from_call} result={total} points={}", shape.all_points(blocks));
        world.report().iter().for_each(|report| eprintln!("{report}"));
    }
    Ok(())
}
