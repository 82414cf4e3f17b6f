//! More bytes, and more elements, than MPI's counts can tell: arrays, values of tasks, batches, partials, parts of tables, and
//! what a journal has of them.
//!
//! They take 16 GiB of memory, so they run only where somebody asks for it, and where there is as much: `make soak` does.

use crate::support::folder::Folder;
use crate::support::{Launcher, launcher};

/// Two ranks with an item or partial each, what of these is on its way, and copies.
const MEMORY_GIB: u64 = 16;

/// Where the launcher is, if these tests are wanted and possible.
fn wanted() -> Option<Launcher> {
    if std::env::var_os("RANKFOLD_TEST_BIG").is_none_or(|big| big != "1") {
        eprintln!("NOT TESTED: what needs {MEMORY_GIB} GiB of memory; RANKFOLD_TEST_BIG=1 tests it");
        return None;
    }
    // Nobody else runs ranks from here on.
    let mpirun = launcher()?;
    let memory = std::fs::read_to_string("/proc/meminfo").expect("there is a kernel");
    let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"));
    let available: u64 = available.and_then(|number| number.parse().ok()).expect("the kernel knows");
    if available < MEMORY_GIB << 20 {
        eprintln!("NOT TESTED: {available} kB of memory are available, and {MEMORY_GIB} GiB are needed");
        return None;
    }
    Some(mpirun)
}

#[test]
fn arrays_may_have_more_elements_than_an_mpi_call_can_count() {
    let Some(mpirun) = wanted() else { return };
    assert_eq!(mpirun.run(2, &["test-spmd", "large-arrays"]).output(), "all as it should be\n");
}

#[test]
fn a_value_of_more_bytes_than_mpi_counts_moves_from_rank_to_rank() {
    let Some(mpirun) = wanted() else { return };
    assert_eq!(mpirun.run(2, &["test-spmd", "pool-huge"]).output(), "3 GiB have moved\n");
}

const ALL_CAME: &str = "all 2148532231 bytes have come\n";

#[test]
fn items_and_parts_of_tables_may_have_more_bytes_than_mpi_counts() {
    let Some(mpirun) = wanted() else { return };
    for scenario in ["huge-batch", "huge-part"] {
        assert_eq!(mpirun.run(2, &["test-spmd", scenario]).output(), ALL_CAME);
    }
}

#[test]
fn partials_may_have_more_bytes_than_mpi_counts_also_in_a_journal() {
    let Some(mpirun) = wanted() else { return };
    let folder = Folder::new("huge-journal");
    let journal = folder.path();
    for job in 0..2 {
        let ended = mpirun.run_parts(&[(2, &[("RANKFOLD_JOURNAL", journal)], &["test-spmd", "huge-partial"])]);
        assert_eq!(ended.output(), ALL_CAME, "job {job}: {ended}");
        // The second job has the result from the journal.
        assert_eq!(ended.stderr.contains("an item is computed"), job == 0, "{ended}");
    }
}
