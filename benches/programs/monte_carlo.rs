//! The same Monte Carlo run twice: as one writes it by hand with rsmpi, and with Rankfold.
//!
//! `mpirun -n 2 bench_monte_carlo by-hand uniform|ramp BLOCKS halves|cards`
//! `mpirun -n 2 bench_monte_carlo with-rankfold uniform|ramp BLOCKS`
//!
//! Both are in one executable, and their kernel is not inlined: the compiler has been seen to make 4 % more instructions of
//! one kernel in two executables, and what is compared is what the programs do around it.

#[path = "monte_carlo/by_hand.rs"]
mod by_hand;
mod kernel;
#[path = "monte_carlo/with_rankfold.rs"]
mod with_rankfold;

fn main() -> rankfold::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments[0].as_str() {
        "by-hand" => {
            by_hand::run(&arguments[1..]);
            Ok(())
        }
        "with-rankfold" => with_rankfold::run(&arguments[1..]),
        other => panic!("the program is by-hand or with-rankfold, not {other}"),
    }
}
