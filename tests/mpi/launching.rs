//! Jobs that are started in a way in which they cannot work.

use std::path::Path;

use crate::support::{ERROR_ENDS, launcher, program, run, run_alone};

#[test]
fn different_programs_are_refused_with_both_named() {
    let Some(mpirun) = launcher() else { return };
    for (first, second) in [("test-spmd", "test-other"), ("test-other", "test-plain")] {
        let ended = mpirun.run_parts(&[(2, &[], &[first, "one"]), (1, &[], &[second, "one"])]);
        let (root, other) = (format!("rank 0 @ runs {}", path(first)), format!("rank 2 @ runs {}", path(second)));
        ended.says(&[&root, &other, "start the same build on every rank"]).times(1, "start the same build");
    }
}

fn path(name: &str) -> String {
    program(name).display().to_string()
}

#[test]
fn settings_that_make_no_sense_are_named_once() {
    let Some(mpirun) = launcher() else { return };
    for (name, value) in settings() {
        let said = format!("{name}={value}");
        let ended = mpirun.run_parts(&[(3, &[(name, value)], &["test-spmd", "one"])]);
        ended.says(&[&said]).times(1, &said);
    }
}

#[test]
fn settings_that_make_no_sense_on_one_rank_end_all_ranks() {
    let Some(mpirun) = launcher() else { return };
    for (name, value) in settings() {
        let said = format!("{name}={value}");
        let wrong: (usize, &[(&str, &str)], &[&str]) = (1, &[(name, value)], &["test-spmd", "one"]);
        let right: (usize, &[(&str, &str)], &[&str]) = (2, &[], &["test-spmd", "one"]);
        mpirun.run_parts(&[wrong, right]).says(&[&said]);
        // Rank 0 alone shows progress, so the others need not mind.
        if name != "RANKFOLD_PROGRESS" {
            mpirun.run_parts(&[right, wrong]).says(&[&said]);
        }
    }
}

fn settings() -> [(&'static str, &'static str); 4] {
    [
        ("RANKFOLD_THREADS", "many"),
        ("RANKFOLD_THREADS", "0"),
        ("RANKFOLD_LOG", "loud"),
        ("RANKFOLD_PROGRESS", "sideways"),
    ]
}

#[test]
fn settings_that_make_no_sense_are_named_without_a_launcher() {
    for (name, value) in settings().into_iter().chain([("RANKFOLD_RANKS", "some"), ("RANKFOLD_RANKS", "0")]) {
        let said = format!("{name}={value}");
        run_alone(&[(name, value)], &["test-plain", "one"]).says(&[&said]).times(1, &said);
    }
}

#[test]
fn an_empty_setting_counts_as_none() {
    let empty = ["RANKFOLD_RANKS", "RANKFOLD_THREADS", "RANKFOLD_LOG", "RANKFOLD_PROGRESS"].map(|name| (name, ""));
    assert_eq!(run_alone(&empty, &["test-plain", "one"]).output(), "3\n");
}

#[test]
fn the_launcher_of_another_mpi_is_found_out() {
    let Some(mpirun) = launcher() else { return };
    let other = if mpirun.is_openmpi() { "mpirun.mpich" } else { "mpirun.openmpi" };
    let Some(other) =
        ["/usr/bin", "/usr/local/bin"].map(|bin| Path::new(bin).join(other)).into_iter().find(|path| is_there(path))
    else {
        eprintln!("NOT TESTED: {other} is not installed");
        return;
    };
    // The ranks do not meet, so rank 0, which is the one to speak, may be the last of them.
    for rank_0_waits in ["0", "1"] {
        let late = format!(
            "if [ \"${{OMPI_COMM_WORLD_RANK:-${{PMI_RANK:-}}}}\" = 0 ]; then sleep {rank_0_waits}; fi; exec \"$0\" \"$@\""
        );
        let mut command = std::process::Command::new(&other);
        if !mpirun.is_openmpi() {
            command
                .arg("--oversubscribe")
                .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
                .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        }
        command.args(["-n", "3", "sh", "-c", &late]).arg(program("test-spmd")).arg("one");
        let ended = run(command, 2 * ERROR_ENDS);
        ended
            .says(&["started 3 ranks, but ", "they belong to different MPIs", "the mpirun of the MPI"])
            .times(1, "they belong to different MPIs");
    }
}

fn is_there(path: &Path) -> bool {
    path.exists()
}
