//! Arrays of all ranks under mpirun.

use crate::results::same_everywhere;
use crate::support::launcher;

#[test]
fn arrays_are_combined_in_the_order_of_ranks_and_shared_out_and_gathered() {
    let Some(mpirun) = launcher() else { return };
    for ranks in [1, 2, 3, 4, 8] {
        assert_eq!(mpirun.run(ranks, &["test-spmd", "arrays"]).output(), "all as it should be\n");
    }
}

#[test]
fn arrays_are_input_with_the_same_bits_on_any_number_of_ranks() {
    let output = same_everywhere(&["test-spmd", "array-input"]);
    assert!(output.contains("along axis 1"), "{output}");
}

#[test]
fn ranks_that_do_different_things_with_arrays_are_told_which() {
    let Some(mpirun) = launcher() else { return };
    let run = |scenario, odd| mpirun.run(4, &["test-spmd", scenario, odd]);
    run("arrays-of-other-lengths", "3").says(&["disagree about the kind of input", "an array of 10", "an array of 11"]);
    run("another-operation", "1").says(&["disagree about the operation", "all_reduce", "all_gather"]);
    for odd in ["0", "2"] {
        run("array-or-map", odd).says(&["disagree about the operation", "all_reduce", "map_reduce"]);
        run("array-or-pool", odd).says(&["disagree about the operation", "all_reduce", "pool"]);
    }
}

#[test]
fn a_rank_that_leaves_while_others_combine_arrays_is_named() {
    let Some(mpirun) = launcher() else { return };
    for leaver in ["0", "2"] {
        let who = format!("rank {leaver} @ left the program after 0 calls");
        mpirun.run(4, &["test-spmd", "leaves-an-array", leaver]).says(&[&who, "every rank must make the same calls"]);
    }
}
