//! The same results, bit for bit, on any number of ranks.

use crate::support::{Ended, HANGS, launcher, program, run, run_alone};

const RANKS: [usize; 5] = [1, 2, 3, 4, 8];

/// Runs a program on every number of ranks, in one process and alone; standard output is the same everywhere.
pub fn same_everywhere(command: &[&str]) -> String {
    let alone = run_alone(&[], command);
    let threads = run_alone(&[("RANKFOLD_RANKS", "7")], command);
    assert_eq!(threads.output(), alone.output(), "{threads}");
    let Some(mpirun) = launcher() else { return alone.stdout };
    for ranks in RANKS {
        let ended = mpirun.run(ranks, command);
        assert_eq!(ended.output(), alone.output(), "{ended}");
    }
    alone.stdout
}

#[test]
fn results_are_right_and_have_the_same_bits_on_any_number_of_ranks() {
    let output = same_everywhere(&["test-spmd", "results"]);
    assert!(output.contains("sum of 100003"), "{output}");
}

/// More than eight ranks to a core, where they start MPI and wait in another way.
#[test]
fn a_crowd_of_ranks_has_the_same_results() {
    let Some(mpirun) = launcher() else { return };
    let ranks = 8 * std::thread::available_parallelism().map_or(1, usize::from) + 1;
    if ranks > 33 {
        eprintln!("NOT TESTED: a crowd on this machine would be {ranks} ranks");
        return;
    }
    let command = ["test-spmd", "results"];
    let alone = run_alone(&[], &command);
    let ended = mpirun.run(ranks, &command);
    assert_eq!(ended.output(), alone.output(), "{ended}");
    if !mpirun.is_openmpi() {
        // The ranks of one host are a crowd, and that of the other is alone: they must not start MPI in different ways. Where
        // nobody is asked for the hosts, they may have any name.
        let mut hosts = mpirun.command();
        hosts.args(["-launcher", "fork", "-hosts", &format!("crowded:{ranks},free:1"), "-n", &(ranks + 1).to_string()]);
        hosts.arg(program(command[0])).arg(command[1]);
        let ended = run(hosts, HANGS);
        assert_eq!(ended.output(), alone.output(), "{ended}");
    }
}

#[test]
fn results_and_items_of_megabytes_arrive_whole() {
    same_everywhere(&["test-spmd", "large-results"]);
}

#[test]
fn arrays_and_tables_that_are_merged_part_by_part_have_the_same_bits_on_any_number_of_ranks() {
    let output = same_everywhere(&["test-spmd", "in-parts"]);
    assert!(output.contains("words [(\"0\", "), "{output}");
}

#[test]
fn tables_for_which_there_is_no_memory_have_the_same_bits_and_leave_nothing_behind() {
    same_in_little_memory(&["test-spmd", "in-parts"], "tables-on-disk", &["1", "3"], 2);
}

#[test]
fn items_for_which_there_is_no_memory_are_sorted_all_the_same_and_leave_nothing_behind() {
    let file = std::env::temp_dir().join(format!("rankfold-sorted-{}", std::process::id()));
    let command = ["test-spmd", "sorted", "0", &*file.to_string_lossy()];
    let output = same_in_little_memory(&command, "items-on-disk", &["1"], 1);
    assert!(output.starts_with("6000 items, ") && output.ends_with("balanced: true\n"), "{output}");
}

/// Runs a program on any number of ranks, with memory for less than they have; so many of its calls need more.
fn same_in_little_memory(command: &[&str], name: &str, in_one_process: &[&str], calls: usize) -> String {
    let folder = Folder::new(name);
    let (path, expected) = (folder.path(), run_alone(&[], command));
    let short = [("RANKFOLD_MEMORY", "16KiB"), ("RANKFOLD_SCRATCH", path.as_str())];
    let check = |ended: &Ended| {
        assert_eq!(ended.output(), expected.output(), "{ended}");
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0, "{ended}");
    };
    for ranks in in_one_process {
        check(&run_alone(&[&short[..], &[("RANKFOLD_RANKS", ranks)]].concat(), command));
    }
    // What cannot be written stays in memory, which is said once for each call; it shows that it would be written.
    let nowhere = [("RANKFOLD_MEMORY", "16KiB"), ("RANKFOLD_SCRATCH", "/nowhere")];
    let ended = run_alone(&nowhere, command);
    assert_eq!(ended.output(), expected.output());
    let said =
        "rank 0 @: what is computed stays in memory, beyond RANKFOLD_MEMORY, since it cannot be written below /nowhere";
    ended.times(calls, said);
    if let Some(mpirun) = launcher() {
        for ranks in RANKS {
            check(&mpirun.run_parts(&[(ranks, &short, command)]));
        }
    }
    expected.stdout
}

#[test]
fn items_that_stay_on_the_ranks_come_to_the_same_on_any_number_of_ranks() {
    let alone = run_alone(&[], &["test-spmd", "shards"]);
    assert!(alone.output().contains(" true ["), "{alone}");
    let Some(mpirun) = launcher() else { return };
    for ranks in RANKS {
        let ended = mpirun.run(ranks, &["test-spmd", "shards"]);
        assert_eq!(ended.output(), alone.output(), "{ended}");
    }
    let alone = run_alone(&[], &["test-spmd", "shards-uneven"]);
    for ranks in RANKS {
        let ended = mpirun.run(ranks, &["test-spmd", "shards-uneven"]);
        ended.times(1, &format!("made by all {ranks} ranks: true"));
        assert_eq!(ended.output(), alone.output(), "{ended}");
    }
    mpirun.run(3, &["test-spmd", "shards-panic"]).says(&["the mapper panicked on rank ", "item 777", "unlucky"]);
}

#[test]
fn a_thousand_calls_follow_each_other() {
    same_everywhere(&["test-plain", "many-calls"]);
}

#[test]
fn a_mapper_that_panics_twice_is_tried_again() {
    let Some(mpirun) = launcher() else { return };
    for ranks in [1, 4] {
        assert_eq!(mpirun.run(ranks, &["test-spmd", "recovers"]).output(), "499500\n");
    }
}

#[test]
fn empty_input_gives_the_identity_where_there_is_one() {
    let Some(mpirun) = launcher() else { return };
    mpirun.run(3, &["test-spmd", "empty-with-identity"]).output();
}

#[test]
fn lines_are_those_of_the_files_however_they_end() {
    let folder = Folder::new("lines");
    let texts = [
        "one\r\ntwo\r\n\r\nfour".to_owned(),
        String::new(),
        (0..20_000).map(|i| format!("line {i} of the second file{}\n", "é".repeat(i % 40))).collect(),
        format!("short\n{}\nlast without an end", "long ".repeat(100_000)),
    ];
    let paths: Vec<String> =
        texts.iter().enumerate().map(|(number, text)| folder.write(&format!("{number}.txt"), text)).collect();
    let command: Vec<&str> = ["test-spmd", "count-lines"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    assert_eq!(same_everywhere(&command), "20007 lines\n");
}

#[test]
fn the_examples_print_the_same_everywhere() {
    let folder = Folder::new("examples");
    let text: String =
        (0..30_000u64).map(|i| format!("Word{} über a{}\r\n", "x".repeat((i * i % 7) as usize), i)).collect();
    let words = folder.write("words.txt", &text);
    let numbers: String = (0..500u64).map(|i| format!("{}\n", i * i * 999_983 + 2)).collect();
    let numbers = folder.write("numbers.txt", &numbers);
    let pi = same_everywhere(&["montecarlo_pi", "--samples", "3000000", "--seed", "5"]);
    assert!(pi.starts_with("pi = 3.1") && pi.contains(" ± "), "{pi}");
    let counts = same_everywhere(&["word_count", "--top", "4", &words]);
    assert!(counts.starts_with("30000\ta\n30000\tüber\n"), "{counts}");
    let primes = same_everywhere(&["primes", &numbers]);
    assert!(primes.starts_with("2\tprime\n"), "{primes}");
    let scores = same_everywhere(&["scatter_gather", "--numbers", "100003", "--parts", "7"]);
    assert!(scores.starts_with("100003 numbers, mean 0.5") && scores.lines().count() == 2, "{scores}");
    let sum = same_everywhere(&["tree_reduction", "--arrays", "13", "--length", "20000"]);
    assert!(sum.starts_with("sum = 1") && sum.ends_with(", in 4 levels\n"), "{sum}");
}

#[test]
fn the_examples_of_tasks_check_themselves_and_print_the_same_everywhere() {
    let sorted = same_everywhere(&["merge_sort", "0", "1000", "20001", "--threshold", "1500"]);
    assert_eq!(sorted, "0 numbers are sorted\n1000 numbers are sorted\n20001 numbers are sorted\n");
    let accounts = same_everywhere(&["actors", "--accounts", "5", "--transfers", "300"]);
    assert!(accounts.contains("total:        5000.00, as before 300 transfers\n"), "{accounts}");
    assert!(accounts.ends_with("an account that panicked began anew with 1000.00\n"), "{accounts}");
    let compared = same_everywhere(&["speedup", "--tasks", "300", "--length", "0.1"]);
    assert_eq!(compared, "300 tasks: the same values on one thread and in the pool\n");
}

#[test]
fn a_code_of_its_own_mpi_calls_uses_rankfold_in_between() {
    let Some(mpirun) = launcher() else { return };
    for scenario in ["in-between", "two-worlds", "halves", "many-worlds", "init-twice"] {
        for ranks in if scenario == "many-worlds" { vec![2] } else { RANKS.to_vec() } {
            let ended = mpirun.run(ranks, &["test-user", scenario]);
            assert_eq!(ended.output(), format!("{scenario}: done\n"));
            if scenario == "many-worlds" {
                assert_eq!(ended.stderr.matches("rankfold: 2 ranks").count(), 1, "{}", ended.stderr);
            }
        }
    }
}

/// A folder for one test, removed at its end.
pub struct Folder(std::path::PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let here = program("").join(format!("rankfold-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&here).expect("the target folder can be written to");
        Self(here)
    }

    pub fn path(&self) -> String {
        self.0.display().to_string()
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("the target folder can be written to");
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
