//! Another program, to be started next to one of the others by mistake.

fn main() -> rankfold::Result<()> {
    let world = rankfold::init()?;
    let sum = world.over(0..10u64).named("other").map_reduce(|i| i, |a, b| a + b)?;
    println!("{sum}");
    Ok(())
}
