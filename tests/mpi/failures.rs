//! A call that fails on any rank fails on every rank: one message with rank, host, item and remedy, and no hang.

use crate::results::Folder;
use crate::support::{Launcher, launcher};

/// Plays a scenario on four ranks, in a program that uses `spmd` and in one whose `main` returns the error: each says
/// all the parts, and the first of them exactly once.
fn fails(mpirun: &Launcher, scenario: &[&str], parts: &[&str]) {
    for program in ["test-spmd", "test-plain"] {
        mpirun.run(4, &[&[program], scenario].concat()).says(parts).times(1, parts[0]);
    }
}

#[test]
fn a_mapper_that_panics_on_rank_2_ends_all_ranks() {
    let Some(mpirun) = launcher() else { return };
    let parts = ["energy: the mapper panicked on rank 2 @ at item ", "the mesh is torn", "failures.rs:", ".retries(n)"];
    fails(&mpirun, &["mapper-panics"], &parts);
}

#[test]
fn a_mapper_that_panics_is_named_with_its_item_wherever_the_item_is_computed() {
    let Some(mpirun) = launcher() else { return };
    for ranks in [1, 2, 3, 8] {
        let ended = mpirun.run(ranks, &["test-spmd", "mapper-panics-on-item"]);
        ended.says(&["energy: the mapper panicked on rank ", "@ at item 700: the mesh is torn"]);
        ended.times(1, "the mesh is torn");
    }
    let ended = mpirun.run(3, &["test-spmd", "batch-mapper-panics"]);
    ended.says(&["energy: the mapper panicked on rank ", "at the batch of items ", "the mesh is torn"]);
}

#[test]
fn a_mapper_that_panics_is_named_also_while_other_threads_are_in_its_batch() {
    let Some(mpirun) = launcher() else { return };
    for ranks in [1, 2] {
        let command = ["test-spmd", "mapper-panics-late"];
        let ended = mpirun.run_parts(&[(ranks, &[("RANKFOLD_THREADS", "4")], &command)]);
        ended.says(&["@ at item 767: the mesh is torn"]).times(0, "cancelled");
    }
}

#[test]
fn a_mapper_that_works_for_a_minute_does_not_hold_up_an_error() {
    let Some(mpirun) = launcher() else { return };
    let parts = ["at item 0: the mesh is torn", "still compute 2 s later and cannot be interrupted"];
    fails(&mpirun, &["mapper-panics-while-another-works"], &parts);
}

#[test]
fn a_combiner_that_panics_names_the_items_of_its_partials() {
    let Some(mpirun) = launcher() else { return };
    let combiner = "energy: the combiner panicked on rank ";
    fails(&mpirun, &["combiner-panics-in-leaf"], &[combiner, "at the partials of items ", "the parts do not fit"]);
    fails(&mpirun, &["combiner-panics-between-batches"], &[combiner, "the parts do not fit", "failures.rs:"]);
    let last = "energy: the combiner panicked on rank 0 @ at the partials of items 0 to 4095: the parts do not fit";
    fails(&mpirun, &["combiner-panics-at-the-end"], &[last]);
}

#[test]
fn a_panic_in_a_program_with_mpi_calls_of_its_own_is_told_once() {
    let Some(mpirun) = launcher() else { return };
    for ranks in [1, 4] {
        let ended = mpirun.run(ranks, &["test-user", "mapper-panics"]);
        ended.says(&["energy: the mapper panicked on rank ", "@ at item 700: the mesh is torn"]);
        ended.times(1, "the mesh is torn").times(0, "left the program");
    }
}

#[test]
fn ranks_that_disagree_are_refused_with_both_sides_named() {
    let Some(mpirun) = launcher() else { return };
    let scenarios = [
        ("other-length", "length of the input", "length 1000", "length 1001"),
        ("other-type", "type of the result", "u64", "f64"),
        ("other-operation", "operation", "map_reduce", "map"),
        ("other-name", "name of the call", "\"energy\"", "\"mass\""),
        ("other-contents", "content of the input", "fingerprint ", "fingerprint "),
        ("other-source", "kind of input", "range of u64", "items from the root"),
        ("other-leaf", "leaf size", "4", "8"),
    ];
    for (scenario, what, on_root, on_other) in scenarios {
        let what = format!("energy: the ranks disagree about the {what}:");
        let (on_root, on_other) = (format!("rank 0 @ has {on_root}"), format!("rank 1 @ has {on_other}"));
        fails(&mpirun, &[scenario], &[&what, &on_root, &on_other, "every rank must make the same calls"]);
    }
}

#[test]
fn empty_input_is_the_same_error_on_every_rank() {
    let Some(mpirun) = launcher() else { return };
    for scenario in ["empty", "empty-on-root", "empty-from-root"] {
        fails(&mpirun, &[scenario], &["energy: the input is empty", ".identity(value)"]);
    }
    mpirun.run(1, &["test-plain", "empty"]).says(&["energy: the input is empty"]);
}

#[test]
fn values_that_do_not_survive_the_wire_are_named_with_their_type() {
    let Some(mpirun) = launcher() else { return };
    let remedy = "bincode is not self-describing";
    fails(&mpirun, &["cannot-encode"], &["::Stubborn cannot be encoded on rank ", "stays here", remedy]);
    fails(&mpirun, &["cannot-decode"], &["::Loose cannot be decoded on rank 0 @", remedy]);
    fails(&mpirun, &["cannot-decode-item"], &["arrived but cannot be decoded", "on rank ", remedy]);
}

#[test]
fn a_result_that_the_other_ranks_cannot_read_is_an_error_on_all_ranks() {
    let Some(mpirun) = launcher() else { return };
    let parts = ["energy: a value of type ", "::Small cannot be decoded on rank ", "1000 is too large"];
    fails(&mpirun, &["result-cannot-be-decoded"], &parts);
    mpirun.run(2, &["test-spmd", "result-cannot-be-decoded"]).says(&parts).times(0, "left the program");
}

#[test]
fn a_file_that_one_rank_cannot_read_is_named_with_the_rank() {
    let Some(mpirun) = launcher() else { return };
    let folder = Folder::new("missing");
    let (here, gone) = (folder.write("here.txt", "one\ntwo\n"), folder.path());
    assert_eq!(mpirun.run(4, &["test-spmd", "lines", &here, &here]).output(), "2\n");
    let missing = format!("{gone}/missing.txt");
    let cannot = format!("words: cannot find {missing}");
    fails(&mpirun, &["lines", &here, &missing], &[&cannot, "(on rank 1 @)", "put the file where every node sees it"]);
    let cannot = format!("words: cannot find {missing}");
    fails(&mpirun, &["lines", &missing, &here], &[&cannot, "(on rank 0 @)"]);
    fails(&mpirun, &["lines", &here, &gone], &["is a folder", "(on rank 1 @)"]);
}

#[test]
fn an_error_of_the_program_itself_ends_all_ranks() {
    let Some(mpirun) = launcher() else { return };
    mpirun.run(4, &["test-spmd", "own-error"]).says(&["no such galaxy"]).times(1, "no such galaxy");
    for rank in ["0", "1"] {
        let parts = format!("error on rank {rank} @: no such galaxy");
        mpirun.run(4, &["test-spmd", "own-error", rank]).says(&[&parts]).times(1, "no such galaxy");
    }
}
