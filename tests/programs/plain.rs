//! A program whose `main` returns a `Result`: plays the scenario that its arguments name.

use std::error::Error;

mod scenarios;

fn main() -> Result<(), Box<dyn Error>> {
    let world = rankfold::init()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    scenarios::play(&world, &arguments)
}
