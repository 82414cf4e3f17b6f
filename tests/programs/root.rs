//! A program of the root door: its closure runs on rank 0, and ends well or with an error of its own.

use std::process::ExitCode;

use rankfold::{Remote, Result};

fn main() -> ExitCode {
    rankfold::run(|pool| {
        let squares = pool.map(|n: u64| n * n, 0..1000)?;
        println!("{}", squares.into_iter().map(Remote::get).sum::<Result<u64>>()?);
        match std::env::args().nth(1) {
            Some(reason) => Err(reason.into()),
            None => Ok(()),
        }
    })
}
