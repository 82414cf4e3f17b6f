//! Batch map-reduce for HPC clusters.
//!
//! You write a mapper and a combiner. Rankfold finds the batch sizes, keeps every core busy, counts every item exactly
//! once, and gives *the same bits* on 1 rank or 100,000.
//!
//! ```
//! use rankfold::rand::RngExt;
//!
//! fn main() -> rankfold::Result<()> {
//!     let world = rankfold::init()?; // under mpirun: MPI; otherwise: this machine's cores
//!     let (blocks, samples) = (1000u64, 1000);
//!     let inside = world.map_reduce(
//!         0..blocks,
//!         |block| {
//!             let mut rng = rankfold::rng(42, block);
//!             (0..samples).filter(|_| rng.random::<f64>().hypot(rng.random()) < 1.0).count() as u64
//!         },
//!         |a, b| a + b,
//!     )?;
//!     if world.is_root() {
//!         println!("pi = {}", 4.0 * inside as f64 / (blocks * samples) as f64);
//!     }
//! #   assert_eq!(inside, 785_548);
//!     Ok(())
//! }
//! ```
//!
//! Started as `mpirun -n 135 ./program`, rank 0 hands batches of items to all ranks over MPI, every rank computes with
//! rayon, and the partial results are reduced with MPI collectives. Started as `./program`, the same code uses this
//! machine's cores; with `RANKFOLD_RANKS=7`, seven ranks inside one process.
//!
//! # Words
//!
//! | word | meaning |
//! | --- | --- |
//! | rank, size, root, communicator, collective | as in the MPI standard |
//! | item | one element of the input, with a global index `0..N` |
//! | leaf | consecutive items, a power of two of them, folded from left to right; depends on `N` alone |
//! | batch | an aligned run of leaves that the master hands to a worker |
//! | segment | a finished aligned run with its partial value |
//! | partial | the value of a segment |
//! | call | one `map_reduce`, `map`, `fold` …, made by all ranks together |
//! | pool | the ranks, as they serve a program that gives out tasks ([`run`], [`World::pool`]) |
//! | task | one function call on some rank, made by [`Pool::submit`] |
//! | remote | a value that lives, or will live, on some rank |
//! | graph | tasks that are described first, as nodes, and run when it is known what of them is wanted ([`Graph`]) |
//! | shared | a value that every rank has a copy of ([`Pool::broadcast`]) |
//! | variable | a named value of a rank, for the tasks that run there ([`Pool::push`], [`variable()`]) |
//! | attempt | one try of a batch |
//! | run | the whole computation, over as many jobs as it takes |
//! | journal | the folder that carries a run from one job to the next |
//!
//! # From input to result
//!
//! ```text
//!  Source ─► master: Scheduler ──batch──► worker: Agent ─► rayon ─► segment
//!                ▲   │  policy learns        │                        │ buddies merge at once
//!                │   └── ledger              │                        ▼
//!                └──────────── done ─────────┴────────────── reduce: Segments
//!                                                                     │ collective over ranks
//!                                                                     ▼
//!                                                                  result on every rank / on root
//! ```
//!
//! # Environment
//!
//! | variable | meaning |
//! | --- | --- |
//! | `RANKFOLD_RANKS` | ranks inside one process, when there is no launcher; default 1 |
//! | `RANKFOLD_THREADS` | threads a rank computes with; default: its share of the cores it may use |
//! | `RANKFOLD_PROGRESS` | `bar`, `lines`, `off`; default: a bar on a terminal, lines in a file |
//! | `RANKFOLD_JOURNAL` | a folder that all ranks share: the journal of all calls ([`Over::journal`]) and graphs ([`Graph::journal`]) |
//! | `RANKFOLD_JOURNAL_INTERVAL` | least seconds between two snapshots of a rank; default 1, more with over 100 ranks |
//! | `RANKFOLD_DEADLINE` | when a run with a journal has to end: seconds since 1970, or `+SECONDS`; default: what Slurm says |
//! | `RANKFOLD_FAILED` | a file that gets the error of a program that fails by itself, for scripts that start again what was killed |
//! | `RANKFOLD_FORCE_BUILD` | `1` goes on with a journal that another build of the program has begun |
//! | `RANKFOLD_SKIP_POISONED` | `1` gives results without the items that end the rank which computes them ([`Over::skip_poisoned`]) |
//! | `RANKFOLD_PATIENCE` | seconds of silence after which a rank is given up; default 30, more with over 10,000 ranks |
//! | `RANKFOLD_RESOURCES` | what tasks can count on at a rank, such as `gpu=4,mem=64GiB` ([`Task::needs`]); default: nothing |
//! | `RANKFOLD_MEMORY` | what a rank may have in memory of a pool's values, and of a reduction or sort by key, such as `4GiB`; the rest goes to its disk; default: all |
//! | `RANKFOLD_SCRATCH` | the folder for that, on a disk of each machine; default: `TMPDIR`, or /tmp |
//! | `RANKFOLD_LOG` | `off`, `error`, `warn`, `info` (default), `debug`, `trace` |

#![deny(unsafe_code)]
#![warn(missing_docs)]

// In the order of the flow: a program starts, a call is described, its input counted, its batches scheduled, computed,
// reduced and recorded; then what all of that stands on.
mod program;
mod world;
mod job;
mod kernel;
mod call;
mod pool;
mod graph;
mod array;
mod keyed;
mod shards;
mod code;
mod source;
mod random;
mod extent;
mod master;
mod worker;
mod reduce;
pub mod journal;
mod driver;
mod meeting;
mod rank;
mod wire;
mod transport;
mod time;
mod lock;
mod launch;
mod interrupt;
mod slurm;
mod report;
mod error;
// The same scheduler on machines that are not there.
pub mod simulate;

pub use array::dense::Dense;
pub use array::op;
pub use error::{Error, ErrorKind, Place, Result, Role};
pub use graph::{Graph, KeepGoing, NewNode, Node, Outputs, Plan, Remotes, Results, Values};
pub use job::{ByKey, Elementwise, OnRoot, Over};
pub use keyed::emit::Pairs;
pub use pool::actor::{Actor, Maker, Method};
pub use pool::desk::Timing;
pub use pool::each::Each;
pub use pool::function::{Argument, Data, Function};
pub use pool::remote::{Getting, Remote};
pub use pool::shared::Shared;
pub use pool::task::Task;
pub use pool::threads::stop_if_asked;
pub use pool::variables::{set_variable, variable};
pub use pool::{AsCompleted, Pool, Until};
pub use program::{init, run, spmd, threads};
pub use random::{ItemRng, rng};
pub use rank::Traffic;
pub use report::{RankReport, Report};
pub use shards::sharded::Sharded;
pub use shards::sorted::Sorted;
pub use shards::source::{Lent, LentItems, LentSlice, Shards};
pub use source::{Source, SourceError};
pub use world::World;

/// What elements of arrays are: plain data. Its derive macros need the crate itself.
pub use bytemuck;
/// Arrays of any number of axes.
pub use ndarray;
/// The random number traits and distributions that [`rng`] works with.
pub use rand;

/// Input for calls: see [`Source`]. Integer ranges are input as they are.
pub mod data {
    pub use crate::source::{
        Along, AlongFromRoot, FromRoot, Items, Line, Lines, Record, Records, Replicated, SharedItems, SharedSlab, Slab,
        Text, along, along_from_root, from_root, lines, records, replicated,
    };
}

/// The README's programs, compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The programs of the tables of names, compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/coming-from.md")]
struct ComingFrom;
