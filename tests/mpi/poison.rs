//! An item that ends its rank, and with it the job, under mpirun: it is found, and everything else is done.

use crate::support::folder::Folder;
use crate::support::poison::{expected, until_it_ends_by_itself};
use crate::support::{Ended, HANGS, Launcher, launcher, program, run};

fn play(mpirun: &Launcher, folder: &Folder, ranks: usize, skip: &str) -> Ended {
    let mut command = mpirun.command();
    command.args(["-n", &ranks.to_string()]).arg(program("test-spmd")).arg("poisoned");
    command.env("RANKFOLD_JOURNAL", &folder.0).env("RANKFOLD_JOURNAL_INTERVAL", "0.05");
    command.env("RANKFOLD_SKIP_POISONED", skip).env("POISON", "text:411");
    run(command, HANGS)
}

#[test]
fn an_item_that_ends_its_rank_is_found_by_jobs_on_any_number_of_ranks() {
    let Some(mpirun) = launcher() else { return };
    let folder = Folder::new("mpi-poison");
    let sizes = [3, 2, 4, 1, 8];
    let (ended, _) = until_it_ends_by_itself(1, |job| play(&mpirun, &folder, sizes[job % sizes.len()], "0"));
    assert_eq!(ended.code, Some(1), "{ended}");
    ended.says(&["text: whoever computes item 411 is ended by it", "RANKFOLD_SKIP_POISONED=1"]);
    let skipped = play(&mpirun, &folder, 3, "1");
    assert_eq!(skipped.output(), expected(&[411], &[], &[], &["item 411"]), "{skipped}");
}
