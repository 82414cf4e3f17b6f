//! Runs on machines that are not there: the production scheduler on virtual time.
//!
//! [`run`] tells how long a computation takes on a given [`Machine`], for planning a job and for comparing ways to
//! schedule; [`trial()`] lets everything go wrong that can, and checks what comes out; [`task_trial`] does so with
//! pools.
//!
//! ```
//! use rankfold::simulate::{Machine, Scheme, Workload, run};
//!
//! // A billion items of 420 ns on 135 ranks, whose costs vary.
//! let costs = Workload::Lognormal.costs(1_000_000_000, 420e-9, 1);
//! let forecast = run(&Machine::new(135), &costs, Scheme::Rankfold);
//! assert!(forecast.efficiency > 0.9, "{forecast:?}");
//! ```

mod baselines;
mod cluster;
mod costs;
mod faults;
mod forecast;
mod machine;
pub(crate) mod mutant;
#[cfg(test)]
pub(crate) mod scenario;
mod shuffle;
mod tasks;
mod trial;
mod value;

pub use costs::{Costs, Workload};
pub use forecast::{Forecast, Scheme, run};
pub use machine::{Machine, Stall};
pub use tasks::{TaskVerdict, task_trial};
pub use trial::{Verdict, Violation, describe_trial, trial};

#[cfg(test)]
mod tests;
