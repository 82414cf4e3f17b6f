//! The transport contract under a real mpirun: each test starts this very executable again, as ranks.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Mpi, environment};
use crate::transport::wait::{Mood, Waiter};
use crate::transport::{Channel, Transport, contract};

/// Ranks that have not ended by now hang.
const HANGS: Duration = Duration::from_secs(100);
/// Test executables of one launch at a time.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Runs an ignored test of this module as the ranks of an MPI job.
fn launch(ranks: usize, test: &str) {
    let Some(mpirun) = std::env::var_os("RANKFOLD_TEST_MPIRUN").filter(|path| !path.is_empty()) else {
        eprintln!("NOT TESTED UNDER MPI: RANKFOLD_TEST_MPIRUN is not set; `make test` sets it");
        return;
    };
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut command = Command::new(mpirun);
    if std::env::var("RANKFOLD_TEST_MPI").is_ok_and(|mpi| mpi == "openmpi") {
        command.args(["--oversubscribe", "--bind-to", "none"]);
        for name in ["OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT"] {
            command.env(name, "1").env(format!("{name}_CONFIRM"), "1");
        }
    }
    command.args(["-n", &ranks.to_string()]).arg(std::env::current_exe().unwrap());
    let name = format!("transport::mpi::tests::{test}");
    command.args(["--exact", &name, "--ignored", "--test-threads=1", "--nocapture"]);
    let mut child = command.stdin(Stdio::null()).process_group(0).spawn().unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > HANGS {
            end(&mut child);
            panic!("{test} on {ranks} ranks is still running after {HANGS:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "{test} on {ranks} ranks: {status}, see the output above");
}

/// Asks the launcher to end, which ends its ranks; then kills what is left of its process group.
fn end(child: &mut Child) {
    let group = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
        let _gone = rustix::process::kill_process_group(group, signal);
        std::thread::sleep(Duration::from_secs(2));
    }
    let _reaped = child.try_wait();
}

#[test]
fn mpi_keeps_the_contract() {
    for ranks in [1, 2, 3, 4, 8] {
        launch(ranks, "a_rank_of_the_contract");
    }
}

#[test]
fn mpi_keeps_the_contract_when_it_splits_messages() {
    for ranks in [1, 2, 3, 4, 8] {
        launch(ranks, "a_rank_of_the_contract_that_splits_messages");
    }
}

#[test]
fn a_message_of_more_than_a_gibibyte_arrives_whole() {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = available.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0);
    if kib < 8 << 20 {
        eprintln!("NOT TESTED: a message of more than 1 GiB needs 8 GiB of memory, and {} MiB are free", kib >> 10);
        return;
    }
    launch(2, "a_rank_of_two_that_exchange_a_gibibyte");
}

/// Initialises MPI on this thread, which is then the one that may call it.
fn on_mpi(piece: Option<usize>, check: impl FnOnce(&mut Mpi)) {
    let communicator = environment::initialize().unwrap();
    let mut transport = match piece {
        Some(piece) => Mpi::with_piece(&communicator, true, piece),
        None => Mpi::new(&communicator, true),
    }
    .unwrap();
    // A rank that unwinds must not leave the others waiting for the launcher's patience.
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&mut transport)));
    if checked.is_err() {
        transport.abort(101);
    }
}

#[test]
#[ignore = "one rank of mpi_keeps_the_contract"]
fn a_rank_of_the_contract() {
    on_mpi(None, |transport| contract::check(transport));
}

#[test]
#[ignore = "one rank of mpi_keeps_the_contract_when_it_splits_messages"]
fn a_rank_of_the_contract_that_splits_messages() {
    on_mpi(Some(4096), |transport| contract::check(transport));
}

#[test]
#[ignore = "one rank of a_message_of_more_than_a_gibibyte_arrives_whole"]
fn a_rank_of_two_that_exchange_a_gibibyte() {
    let length = super::PIECE + 12_345;
    let byte = |at: usize| (at / 4096 + at) as u8;
    on_mpi(None, |transport| {
        if transport.rank() == 0 {
            transport.send(1, Channel::Partials, (0..length).map(byte).collect()).unwrap();
            assert!(transport.is_moving());
            let mut waiter = Waiter::default();
            while transport.is_sending() {
                assert!(transport.receive().unwrap().is_none());
                waiter.wait(Mood::Sending, std::thread::sleep);
            }
            assert!(!transport.is_moving());
        } else {
            let mut waiter = Waiter::default();
            let arrived = loop {
                if let Some(incoming) = transport.receive().unwrap() {
                    break incoming;
                }
                waiter.wait(Mood::without_work(transport), std::thread::sleep);
            };
            assert_eq!((arrived.from, arrived.channel, arrived.bytes.len()), (0, Channel::Partials, length));
            let wrong = arrived.bytes.iter().enumerate().find(|(at, found)| **found != byte(*at));
            assert_eq!(wrong, None);
        }
        transport.close(&mut drop).unwrap();
    });
}
