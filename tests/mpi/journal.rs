//! Ranks that are killed, again and again, until the run is through: the result is that of a run nothing happened to.

use std::fs;
use std::time::{Duration, Instant};

use rand::RngExt;
use rankfold::ItemRng;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::folder::Folder;
use crate::support::{Ended, HANGS, Launcher, launcher, program, run_alone, run_disturbed};

/// Ranks that are killed in `make test`, with each MPI; `RANKFOLD_KILLS` asks for more.
const KILLS: u64 = 15;
const KILLS_IN_PARTS: u64 = 5;
/// Milliseconds of work, on one core.
const WORK: &str = "1500";
const SIZES: [usize; 5] = [1, 2, 3, 4, 8];

/// Ranks to be killed, as many as somebody asks for.
pub fn wanted(few: u64) -> u64 {
    std::env::var("RANKFOLD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

fn undisturbed(work: &str) -> String {
    run_alone(&[], &["test-spmd", "journaled", work]).output().to_owned()
}

/// Runs the program on so many ranks; `disturb` is shown the launcher until it says that it has done what it wanted.
pub fn disturbed(
    mpirun: &Launcher,
    folder: &Folder,
    ranks: usize,
    words: &[&str],
    environment: &[(&str, &str)],
    mut disturb: impl FnMut(Pid) -> bool,
) -> (Ended, bool) {
    let mut command = mpirun.command();
    command.args(["-n", &ranks.to_string()]).arg(program(words[0])).args(&words[1..]);
    command.env("RANKFOLD_JOURNAL", &folder.0).env("RANKFOLD_JOURNAL_INTERVAL", "0.05");
    command.envs(environment.iter().copied());
    let mut done = false;
    let mut alone = None;
    let ended = run_disturbed(command, HANGS, |mpirun| {
        if done {
            end_if_alone(mpirun, &mut alone);
        } else {
            done = disturb(mpirun);
        }
    });
    (ended, done)
}

/// Open MPI 4.1's mpirun has been seen to stand still for ever when a rank dies in the milliseconds in which it connects,
/// whatever the program is, with all its ranks dead already. There is nobody left then who could do anything about it.
fn end_if_alone(mpirun: Pid, since: &mut Option<Instant>) {
    let is_child = |stat: &(char, i32)| stat.1 == mpirun.as_raw_nonzero().get();
    let children: Vec<(char, i32)> = processes().filter_map(state_and_parent).filter(is_child).collect();
    if children.is_empty() || children.iter().any(|(state, _)| *state != 'Z') {
        *since = None;
    } else if since.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(15) {
        eprintln!("mpirun stands still though all ranks have ended: it is killed");
        let _ = kill_process(mpirun, Signal::KILL);
    }
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn state_and_parent(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The process of a rank, below its launcher.
fn rank_of(mpirun: Pid, rank: usize) -> Option<Pid> {
    processes().filter(|pid: &i32| is_below(*pid, mpirun)).find_map(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut variables = environment.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok());
        let is_it = |text: &str| {
            [("OMPI_COMM_WORLD_RANK", rank), ("PMI_RANK", rank)]
                .iter()
                .any(|(name, rank)| text == format!("{name}={rank}"))
        };
        variables.any(is_it).then_some(())?;
        Pid::from_raw(pid)
    })
}

fn is_below(mut pid: i32, ancestor: Pid) -> bool {
    while pid > 1 {
        let Some((_, parent)) = state_and_parent(pid) else { return false };
        if parent == ancestor.as_raw_nonzero().get() {
            return true;
        }
        pid = parent;
    }
    false
}

/// One job of a run, of which one rank is killed at some moment, unless it ends before: how it ended, and whether one was.
pub fn job_with_a_kill(
    mpirun: &Launcher,
    folder: &Folder,
    words: &[&str],
    environment: &[(&str, &str)],
    dice: &mut ItemRng,
) -> (Ended, bool) {
    let ranks = SIZES[dice.random_range(0..SIZES.len())];
    let victim = dice.random_range(0..ranks);
    let after = Duration::from_micros(dice.random_range(1_000..1_200_000));
    // Some die while MPI starts. On a busy machine that may take longer than all the rest, so for the others the
    // clock starts when the job has opened the journal.
    let (is_early, before) = (dice.random_bool(0.2), folder.files("/jobs/").len());
    let mut begun = is_early.then(Instant::now);
    disturbed(mpirun, folder, ranks, words, environment, |mpirun| {
        if begun.is_none() && folder.files("/jobs/").len() > before {
            begun = Some(Instant::now());
        }
        let victim = begun.filter(|begun| begun.elapsed() >= after).and_then(|_| rank_of(mpirun, victim));
        victim.is_some_and(|victim| kill_process(victim, Signal::KILL).is_ok())
    })
}

#[test]
fn ranks_are_killed_until_the_run_is_through_and_nothing_is_lost_or_doubled() {
    kill_until_through("kills", &["test-spmd", "journaled", WORK], &[], KILLS, 20_261_121);
}

#[test]
fn a_sort_survives_ranks_that_are_killed() {
    let short: &[_] = &[("RANKFOLD_MEMORY", "64KiB")];
    let file = std::env::temp_dir().join(format!("rankfold-kills-sorted-{}", std::process::id()));
    let words = ["test-spmd", "sorted", "1500", &*file.to_string_lossy()];
    kill_until_through("kills-sorted", &words, &[short, &[]], KILLS_IN_PARTS, 20_261_128);
}

#[test]
fn arrays_and_tables_survive_ranks_that_are_killed() {
    // Every other run has memory for less than a table.
    let short: &[_] = &[("RANKFOLD_MEMORY", "16KiB")];
    kill_until_through("kills-in-parts", &["test-spmd", "in-parts", "1500"], &[&[], short], KILLS_IN_PARTS, 20_261_127);
}

/// The steps after a call with a journal are made again by the next job, from what the journal has of that call.
#[test]
fn steps_on_shards_survive_ranks_that_are_killed() {
    kill_until_through("kills-shards", &["test-spmd", "shards", "1500"], &[], KILLS_IN_PARTS, 20_261_129);
}

/// One run after the other in which one rank after the other is killed, until so many were; in one environment after the other.
fn kill_until_through(name: &str, words: &[&str], environments: &[&[(&str, &str)]], kills: u64, seed: u64) {
    let Some(mpirun) = launcher() else { return };
    let wanted = wanted(kills);
    let expected = run_alone(&[], words).output().to_owned();
    let (mut kills, mut runs) = (0, 0);
    while kills < wanted {
        let dice = &mut rankfold::rng(seed, runs);
        let folder = Folder::new(&format!("{name}-{runs}"));
        let mut jobs = 0;
        loop {
            jobs += 1;
            assert!(jobs < 60, "no end of run {runs}");
            let environment = environments.get(runs as usize % environments.len().max(1)).copied().unwrap_or_default();
            let (ended, killed) = job_with_a_kill(&mpirun, &folder, words, environment, dice);
            kills += u64::from(killed);
            if ended.code == Some(0) {
                assert_eq!(ended.output(), expected, "run {runs}, job {jobs}: {ended}");
                break;
            }
            assert!(killed, "run {runs}, job {jobs} failed though nothing was killed: {ended}");
        }
        runs += 1;
    }
    eprintln!("{kills} ranks killed in {runs} runs, all of which came to the right result");
}

#[test]
fn a_signal_through_the_launcher_ends_the_run_early_and_the_next_job_goes_on() {
    let Some(mpirun) = launcher() else { return };
    let (folder, expected) = (Folder::new("usr1"), undisturbed("9000"));
    let mut interrupted = 0;
    for ranks in [3, 2, 4, 8, 4] {
        let before = folder.snapshots();
        let (ended, _) = disturbed(&mpirun, &folder, ranks, &["test-spmd", "journaled", "9000"], &[], |launcher| {
            let is_recorded = folder.snapshots().iter().any(|file| !before.contains(file));
            is_recorded && interrupted < 3 && kill_process(launcher, Signal::USR1).is_ok()
        });
        if !ended.stdout.is_empty() {
            assert_eq!(ended.output(), expected, "{ended}");
            break;
        }
        interrupted += 1;
        // MPICH's mpirun may lose the code of ranks that all end with 75 if it was sent a signal itself (4 of 17 launches of two
        // ranks); job scripts look into the journal as well.
        let is_told = ended.code == Some(75) || (ended.code == Some(0) && !mpirun.is_openmpi());
        assert!(is_told, "{ended}");
        ended.times(1, "got SIGUSR1; start the program again to finish it").times(1, "stopped before the end");
    }
    assert_eq!(interrupted, 3);
}
