//! What can go wrong, told so that the reader knows the rank, the host, the item and what to do next.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::interrupt::TRY_AGAIN;
use crate::launch::leave_word;

/// The result of a Rankfold call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed call. Every rank gets the same error; rank 0 is the one that prints it in full.
///
/// `Display` and [`Error::kind`] tell everything on every rank. `Debug`, which Rust uses when `main` returns an error,
/// is the same text on rank 0 and one short line on the others. [`spmd`](crate::spmd) prints it once, whatever the number
/// of ranks.
///
/// # Examples
///
/// ```
/// use rankfold::ErrorKind;
///
/// let world = rankfold::init()?;
/// let nothing = world.map_reduce(0..0u64, |i| i, |a, b| a + b);
/// assert!(matches!(nothing.unwrap_err().kind(), ErrorKind::EmptyInput { .. }));
/// # Ok::<(), rankfold::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Error {
    kind: Box<ErrorKind>,
    /// The rank that holds this copy, when another rank prints it.
    bystander: Option<u64>,
}

/// A rank and the host it runs on.
///
/// # Examples
///
/// ```
/// let place = rankfold::Place { rank: 2, host: "node7".into() };
/// assert_eq!(place.to_string(), "rank 2 (node7)");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The rank in the world's communicator.
    pub rank: usize,
    /// The name of the machine.
    pub host: String,
}

/// Which of the user's functions a panic came out of.
///
/// # Examples
///
/// ```
/// assert_eq!(rankfold::Role::Combiner.to_string(), "combiner");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The function that is called with an item or a batch.
    Mapper,
    /// The function that joins two partials.
    Combiner,
    /// The function of a task.
    Task,
}

/// The kinds of failure.
///
/// # Examples
///
/// ```
/// use rankfold::ErrorKind;
///
/// let world = rankfold::init()?;
/// let error = world.over(0..10u64).for_each(|i| assert!(i != 7, "seven")).unwrap_err();
/// let ErrorKind::Panicked { item, message, .. } = error.kind() else { panic!("{error}") };
/// assert_eq!((item.as_str(), message.as_str()), ("item 7", "seven"));
/// # Ok::<(), rankfold::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There was nothing to reduce, and no identity to return instead.
    #[error(
        "{call}: the input is empty, so there is no value to return; \
         give one with .identity(value), or check the input before the call"
    )]
    EmptyInput {
        /// The call, by the name given with `named`.
        call: String,
    },

    /// A mapper or a combiner panicked, more often than retries allow.
    #[error("{call}: the {role} panicked on {place} at {item}: {message}\n  at {location}{}{backtrace}", attempts_note(*role, *attempts))]
    Panicked {
        /// The call, by the name given with `named`.
        call: String,
        /// Mapper or combiner.
        role: Role,
        /// Where it happened.
        place: Place,
        /// The item, named by its source, or the range of items whose partials were being combined.
        item: String,
        /// What the panic said.
        message: String,
        /// File, line and column of the panic.
        location: String,
        /// The stack, or how to get one.
        backtrace: String,
        /// How often the batch was tried.
        attempts: u32,
    },

    /// Some items end the rank that computes them; all others are done.
    #[error(
        "{call}: whoever computes {} is ended by it: jobs have crashed with it again and again, at last when nothing else \
         was computed; all other leaves are done, and are in the journal {dir}; mend the function for it (a crash, too much \
         memory) and go on with RANKFOLD_FORCE_BUILD=1; or go on without it: .skip_poisoned(), or RANKFOLD_SKIP_POISONED=1; or, \
         if these jobs were ended from outside, remove {suspects} to try it again",
        items.join(", ")
    )]
    Poisoned {
        /// The call, by the name given with `named`.
        call: String,
        /// The items, named by their source.
        items: Vec<String>,
        /// The journal.
        dir: String,
        /// The file that holds what crashes have shown.
        suspects: String,
    },

    /// A source could not give its items.
    #[error("{call}: {problem} (on {place}); {remedy}")]
    Source {
        /// The call, by the name given with `named`.
        call: String,
        /// Where it happened.
        place: Place,
        /// What is wrong, with the file or item.
        problem: String,
        /// What to do.
        remedy: String,
    },

    /// Ranks did not make the same call.
    #[error(
        "{call}: the ranks disagree about the {what}:\n  {root} has {on_root}\n  {other} has {on_other}\n\
         every rank must make the same calls with the same input; compare the arguments and files of the two"
    )]
    Disagreement {
        /// The call, as rank 0 knows it.
        call: String,
        /// What differs.
        what: String,
        /// Rank 0.
        root: Place,
        /// What rank 0 has.
        on_root: String,
        /// The first rank that has something else.
        other: Place,
        /// What that rank has.
        on_other: String,
    },

    /// A rank left the program while others were in a call.
    #[error(
        "{call}: {place} left the program after {calls} call{}, while {waiting} waits in call {number}; \
         every rank must make the same calls: look for an early return or an error on that rank",
        if *calls == 1 { "" } else { "s" }
    )]
    Left {
        /// The call that cannot be completed.
        call: String,
        /// The rank that left.
        place: Place,
        /// How many calls that rank had made.
        calls: u64,
        /// The rank that noticed.
        waiting: Place,
        /// The number of the call, counted from 1.
        number: u64,
    },

    /// A rank has stopped answering, and the call cannot be completed without it.
    #[error(
        "{place} has not answered {waiting} for {seconds} s, and this call cannot end without it; see whether that process \
         or its node is stopped, overloaded or gone, and start the program again (RANKFOLD_PATIENCE=seconds bears longer \
         silence)"
    )]
    Silent {
        /// The rank that is silent.
        place: Place,
        /// For how long.
        seconds: u64,
        /// The rank that waited for it.
        waiting: Place,
    },

    /// A task cannot run, or an operation cannot be made, as it was asked for.
    #[error("{call}: {problem}; {remedy}")]
    Refused {
        /// The operation; or the task, by the name given with `named`, or its function.
        call: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },

    /// A task did not run, since one whose value it needs has failed.
    #[error("{task} did not run, because what it needs has failed: {cause}")]
    Needed {
        /// The task, by its name or function.
        task: String,
        /// Why the other one failed.
        cause: Box<Error>,
    },

    /// What was to be done on every rank of a pool has failed on some.
    #[error("{call} failed on {} of {ranks} ranks:{}", failures.len(), lines_of(failures))]
    OnRanks {
        /// What was to be done.
        call: String,
        /// The number of ranks.
        ranks: usize,
        /// The error of each rank that failed, in the order of ranks.
        failures: Vec<Error>,
    },

    /// A task was cancelled: before it began, or at a point where it could stop.
    #[error("{task} was cancelled")]
    Cancelled {
        /// The task, by its name or number.
        task: String,
    },

    /// A task took longer than it may.
    #[error(
        "{task} has not come to its end on {place} within {timeout:?}; give it more time (timeout), or see what it waits for"
    )]
    TooLong {
        /// The task, by its name or number.
        task: String,
        /// How long it may run.
        timeout: Duration,
        /// Where it ran.
        place: Place,
    },

    /// A task went on long after it was to have ended, and its rank is not relied on any more.
    #[error(
        "{place} is given up, since {task} goes on there long after its time was up: what that rank alone had is lost; a \
         task can end at rankfold::stop_if_asked()"
    )]
    Hung {
        /// The task, by its name or number.
        task: String,
        /// Where it runs.
        place: Place,
    },

    /// The pool was over before the task was through.
    #[error(
        "{task} has no value: the pool was over before; get what you need inside of the closure that was given the pool"
    )]
    PoolIsOver {
        /// The task, by its name or number.
        task: String,
    },

    /// The program was told to end before the call was through.
    #[error("{call}: stopped before the end, because {reason}; start the program again to finish it")]
    Interrupted {
        /// The call, by the name given with `named`.
        call: String,
        /// What asked for it: a signal, or the end of the time that was given.
        reason: String,
    },

    /// A journal cannot be used, or does not belong to this program.
    #[error("journal {dir}: {problem}; {remedy}")]
    Journal {
        /// The folder.
        dir: String,
        /// What is wrong, with the file.
        problem: String,
        /// What to do.
        remedy: String,
    },

    /// A value could not be written as, or read from, bytes on its way to another rank.
    #[error(
        "{call}: a value of type {type_name} cannot be {doing} on {place}: {message}; \
         bincode is not self-describing: avoid #[serde(untagged)], #[serde(flatten)], #[serde(skip_serializing_if)] and types that only JSON can hold"
    )]
    Encoding {
        /// The call, by the name given with `named`.
        call: String,
        /// Where it happened.
        place: Place,
        /// The type of the value.
        type_name: String,
        /// "encoded" or "decoded".
        doing: String,
        /// What serde or bincode said.
        message: String,
    },

    /// An MPI function returned an error.
    #[error("{function} failed on {place}: {message}; see whether a rank or a node was lost, then start the job again")]
    Mpi {
        /// The MPI function.
        function: String,
        /// Where it happened.
        place: Place,
        /// The MPI library's own text.
        message: String,
    },

    /// The program was started in a way in which it cannot work.
    #[error("{problem}; {remedy}")]
    Launch {
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },

    /// The result would not contain every item exactly once. Never the user's fault.
    #[error(
        "{call}: internal error on {place}: {message}; no result was returned. Please report this with the program"
    )]
    Internal {
        /// The call, by the name given with `named`.
        call: String,
        /// Where it happened.
        place: Place,
        /// What was found.
        message: String,
    },
}

impl ErrorKind {
    /// Rank 0 and another one are about to do different things: `difference` is what differs, on the one and on the other.
    pub(crate) fn disagreement(call: &str, difference: (&str, String, String), root: Place, other: Place) -> Self {
        let (what, on_root, on_other) = difference;
        Self::Disagreement { call: call.to_owned(), what: what.to_owned(), root, on_root, other, on_other }
    }
}

impl Error {
    /// What happened, as data.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let error = world.map_reduce(0..0u64, |i| i, |a, b| a + b).unwrap_err();
    /// assert!(matches!(error.kind(), rankfold::ErrorKind::EmptyInput { .. }));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The exit code of a program that ends with this error: 75 (`EX_TEMPFAIL`: try again) if it was told to end early and
    /// another job can go on, else 1.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::process::ExitCode;
    /// fn main() -> ExitCode {
    ///     let compute = || rankfold::init()?.over(0..10u64).journal("runs/1").for_each(|_| {});
    ///     compute().map_or_else(|error| error.exit_code(), |()| ExitCode::SUCCESS)
    /// }
    /// ```
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    pub(crate) fn code(&self) -> u8 {
        if matches!(*self.kind, ErrorKind::Interrupted { .. }) { TRY_AGAIN } else { 1 }
    }

    /// Tells the job script, where another job would fail the same way: an end that was asked for, and ranks that are lost,
    /// are not the program's doing.
    pub(crate) fn leave_word(&self) {
        if !matches!(*self.kind, ErrorKind::Interrupted { .. } | ErrorKind::Mpi { .. } | ErrorKind::Silent { .. }) {
            leave_word(self);
        }
    }

    /// Whether this rank is the one that should show the error to a person.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// if let Err(error) = world.map_reduce(0..0u64, |i| i, |a, b| a + b) {
    ///     if error.is_ours_to_report() { eprintln!("{error}") }   // once, not on every rank
    /// }
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn is_ours_to_report(&self) -> bool {
        self.bystander.is_none()
    }

    /// The copy that `rank` returns to its program: rank 0 reports for all.
    pub(crate) fn on_rank(mut self, rank: usize) -> Self {
        self.bystander = (rank != 0).then_some(rank as u64);
        self
    }

    /// The same error, with the rank on which something was found wrong before there were calls.
    #[cfg(feature = "mpi")]
    pub(crate) fn said_by(mut self, place: &Place) -> Self {
        if let ErrorKind::Launch { problem, .. } = &mut *self.kind {
            *problem = format!("{place}: {problem}");
        }
        self
    }

    /// Whether trying again may help. A combiner's operands are gone when it panics, and a broken promise stays broken.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            *self.kind,
            ErrorKind::Panicked { role: Role::Mapper | Role::Task, .. }
                | ErrorKind::Source { .. }
                | ErrorKind::TooLong { .. }
        )
    }

    /// Whether an actor's state may be half changed after a call that has ended so.
    pub(crate) fn leaves_a_broken_state(&self) -> bool {
        matches!(*self.kind, ErrorKind::Panicked { .. } | ErrorKind::TooLong { .. })
    }

    /// Whether a task took longer than it may: it may still run.
    pub(crate) fn is_too_long(&self) -> bool {
        matches!(*self.kind, ErrorKind::TooLong { .. })
    }

    /// The same error, with the number of attempts that were made.
    pub(crate) fn after(mut self, made: u32) -> Self {
        if let ErrorKind::Panicked { attempts, .. } = &mut *self.kind {
            *attempts = made;
        }
        self
    }

    /// The same error, of what the user calls by this name.
    pub(crate) fn in_call(mut self, name: &str) -> Self {
        if let ErrorKind::Panicked { call, .. }
        | ErrorKind::Encoding { call, .. }
        | ErrorKind::Refused { call, .. }
        | ErrorKind::Internal { call, .. }
        | ErrorKind::Cancelled { task: call }
        | ErrorKind::Needed { task: call, .. }
        | ErrorKind::TooLong { task: call, .. } = &mut *self.kind
        {
            name.clone_into(call);
        }
        self
    }

    /// The error of a task that needs the value of another one, which has failed like this.
    pub(crate) fn of_who_needs(&self) -> Self {
        ErrorKind::Needed { task: "a task".into(), cause: Box::new(self.root().clone()) }.into()
    }

    /// The same error, of this part of a task.
    pub(crate) fn in_part(mut self, name: &str) -> Self {
        match &mut *self.kind {
            ErrorKind::Panicked { item, .. } => *item = format!("{name}, which runs in the same task"),
            ErrorKind::Encoding { message, .. } | ErrorKind::Internal { message, .. } => {
                *message = format!("{name}, which runs in the same task: {message}");
            }
            _ => {}
        }
        self
    }

    /// The error that has caused this one, if that is of a task which needs another's value.
    pub(crate) fn root(&self) -> &Self {
        match &*self.kind {
            ErrorKind::Needed { cause, .. } => cause.root(),
            _ => self,
        }
    }

    pub(crate) fn launch(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        ErrorKind::Launch { problem: problem.into(), remedy: remedy.into() }.into()
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind: Box::new(kind), bystander: None }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bystander {
            Some(rank) => write!(f, "rank {rank} stops with the error that rank 0 reports"),
            None => write!(f, "{self}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} ({})", self.rank, self.host)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mapper => "mapper",
            Self::Combiner => "combiner",
            Self::Task => "task",
        })
    }
}

fn lines_of(errors: &[Error]) -> String {
    errors.iter().map(|error| format!("\n  {error}")).collect()
}

fn attempts_note(role: Role, attempts: u32) -> String {
    match (role, attempts) {
        (Role::Combiner, _) | (Role::Task, 0 | 1) => String::new(),
        (Role::Mapper, 0 | 1) => {
            "\n  the item alone can be tried again with the same arguments; .retries(n) tries a batch n more times"
                .into()
        }
        (Role::Mapper | Role::Task, n) => format!("\n  {n} attempts were made"),
    }
}
