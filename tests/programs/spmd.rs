//! A program written with `rankfold::spmd`: plays the scenario that its arguments name.

use std::error::Error;
use std::process::ExitCode;

mod scenarios;

fn main() -> ExitCode {
    rankfold::spmd(|world| -> Result<(), Box<dyn Error>> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        scenarios::play(world, &arguments)
    })
}
