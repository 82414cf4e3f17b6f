//! Bugs that tests plant in the code under test, to see that the simulator's judges find them.

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A partial that is here already is combined once more.
    DuplicateCounted,
    /// What a duplicate brings gives credit again.
    CreditTwice,
    /// A batch that was returned is not handed out again.
    ReturnForgotten,
    /// A batch that failed is not handed out again.
    FailureForgotten,
    /// The rest of a batch that was cut short is not handed out again.
    RestForgotten,
    /// A worker that gives a batch back computes it nevertheless.
    RecallIgnored,
    /// A region that is split loses its last leaf.
    RegionOffByOne,
    /// The call finishes when one leaf is missing.
    FinishedEarly,
    /// The partials of a lost rank count.
    LostCounts,
    /// Nobody looks for silent workers.
    SilenceIgnored,
    /// What a silent worker holds is not handed to others.
    SilentKeeps,
    /// A worker that was silent for a moment is lost.
    Impatience,
    /// Retries never end.
    RetriesWithoutEnd,
    /// Batches are handed out although the run is to end.
    DrainIgnored,
    /// The run ends without waiting for what can be cut short.
    DrainImpatient,
    /// Left and right are exchanged when buddies meet.
    BuddiesExchanged,
    /// Suspect leaves do not wait until everything else is done.
    QuarantineOpen,
    /// Those who merge lack the first part of every table.
    PartLost,
    /// The part that a key belongs to depends on the table that it is in.
    PartsDiffer,
    /// Keys that should travel in the last round stay where they are.
    RoundTooLate,
    /// A task that was taken back is not handed out again.
    TaskReturnForgotten,
    /// A task that panics is tried again without end.
    TaskRetriesWithoutEnd,
    /// A task that the program runs itself is handed out as well.
    ClaimForgotten,
    /// A value is freed although tasks need it.
    ReadersIgnored,
    /// A value is kept although nobody has a handle on it.
    ReleaseIgnored,
    /// Those who need a value are not told that there will be none.
    CauseForgotten,
    /// What a lost worker held is not handed to others.
    LossForgotten,
    /// Workers go on to wait for values of a lost one.
    NobodyMisses,
    /// A value counts as being where it is on its way to.
    CopiesCount,
    /// A value is not freed where it is on its way to.
    CopiesKept,
    /// A task that is detached does not run when the pool ends.
    DetachedDropped,
    /// An end is told again when it comes again.
    SettledTwice,
    /// Who waits for a value is not told that it is lost.
    LossUntold,
    /// What the tasks of a lost worker have submitted is kept for them.
    OrphansKept,
    /// A task that waits for others keeps its place.
    NoRoomForInner,
    /// What a task has taken of a rank's resources is not free again.
    ResourcesKept,
    /// Resources are not counted.
    ResourcesUncounted,
    /// A call that lacks a value does not hold back those behind it.
    LackingCallsIgnored,
    /// An actor begins anew before its calls have come back.
    RestartTooSoon,
    /// An actor begins anew as often as it dies.
    RestartsWithoutEnd,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Whether a test has planted this bug on this thread. Never in a program.
#[cfg(test)]
pub(crate) fn planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}

#[cfg(not(test))]
pub(crate) const fn planted(_: Mutant) -> bool {
    false
}

/// Runs something with a bug planted.
#[cfg(test)]
pub(crate) fn with<R>(mutant: Mutant, run: impl FnOnce() -> R) -> R {
    PLANTED.set(Some(mutant));
    let result = run();
    PLANTED.set(None);
    result
}

#[cfg(test)]
pub(crate) const IN_CALLS: [Mutant; 20] = [
    Mutant::DuplicateCounted,
    Mutant::CreditTwice,
    Mutant::ReturnForgotten,
    Mutant::FailureForgotten,
    Mutant::RestForgotten,
    Mutant::RecallIgnored,
    Mutant::RegionOffByOne,
    Mutant::FinishedEarly,
    Mutant::LostCounts,
    Mutant::SilenceIgnored,
    Mutant::SilentKeeps,
    Mutant::Impatience,
    Mutant::RetriesWithoutEnd,
    Mutant::DrainIgnored,
    Mutant::DrainImpatient,
    Mutant::BuddiesExchanged,
    Mutant::QuarantineOpen,
    Mutant::PartLost,
    Mutant::PartsDiffer,
    Mutant::RoundTooLate,
];

#[cfg(test)]
pub(crate) const IN_POOLS: [Mutant; 20] = [
    Mutant::TaskReturnForgotten,
    Mutant::TaskRetriesWithoutEnd,
    Mutant::ClaimForgotten,
    Mutant::ReadersIgnored,
    Mutant::ReleaseIgnored,
    Mutant::CauseForgotten,
    Mutant::LossForgotten,
    Mutant::NobodyMisses,
    Mutant::CopiesCount,
    Mutant::CopiesKept,
    Mutant::DetachedDropped,
    Mutant::SettledTwice,
    Mutant::LossUntold,
    Mutant::OrphansKept,
    Mutant::NoRoomForInner,
    Mutant::ResourcesKept,
    Mutant::ResourcesUncounted,
    Mutant::LackingCallsIgnored,
    Mutant::RestartTooSoon,
    Mutant::RestartsWithoutEnd,
];
