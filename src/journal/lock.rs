//! One job at a time: the lock of a journal, and how the lock of a job that is gone is recognised and taken over.
//!
//! The lock is a file that names its owner. On the same machine it is known whether that process lives. Elsewhere an
//! owner that lives changes the file every few seconds, so one that does not change for longer is stale; no clock of
//! another machine is looked at. Of several jobs that find the same stale lock, the one that makes the marker named after
//! it takes over, so exactly one does.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::storage::{Storage, UNFINISHED};
use crate::launch::{host_name, process_space, start_of};

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// An owner that lives changes its lock in this interval.
    pub beat: Duration,
    /// A lock of another machine that has not changed for so long belongs to nobody.
    pub stale: Duration,
    /// A requeued job may start before the one before it is quite gone.
    pub overlap: Duration,
    pub look: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        let [beat, stale, overlap] = [5, 20, 15].map(Duration::from_secs);
        Self { beat, stale, overlap, look: Duration::from_millis(200) }
    }
}

const NAME: &str = "lock";

/// Who owns a journal, as the lock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub host: String,
    /// Tells apart machines of the same name, and the same machine before and after it was started again.
    pub boot: String,
    pub pid: u32,
    /// When the process began, in clock ticks: process numbers are used again.
    pub started: String,
    /// The Slurm job, where there is one.
    pub job: String,
    /// Drawn anew for each lock.
    pub token: u64,
    pub beat: u64,
}

/// Why a journal cannot be had.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Somebody else has it.
    Owned(Box<Holder>),
    /// A job that took it over has not finished doing so.
    Stuck(String),
    Io(io::Error),
}

/// The lock of this job. Dropping it gives the journal free.
#[derive(Debug)]
pub(crate) struct Lock {
    stop: Option<Sender<()>>,
    beating: Option<JoinHandle<()>>,
    lost: Arc<AtomicBool>,
}

impl Holder {
    /// This process. `token` must be one that nobody else has.
    pub fn this_process(token: u64) -> Self {
        let pid = std::process::id();
        Self {
            host: host_name(),
            boot: process_space(),
            pid,
            started: start_of(pid).unwrap_or_default(),
            job: std::env::var("SLURM_JOB_ID").unwrap_or_default(),
            token,
            beat: 0,
        }
    }

    /// Of a lock that cannot be read, as a power loss may leave it.
    fn nobody() -> Self {
        let unknown = || "?".to_owned();
        Self { host: unknown(), boot: String::new(), pid: 0, started: unknown(), job: String::new(), token: 0, beat: 0 }
    }

    fn text(&self) -> String {
        let Self { host, boot, pid, started, job, token, beat } = self;
        format!("host={host}\nboot={boot}\npid={pid}\nstarted={started}\njob={job}\ntoken={token:016x}\nbeat={beat}\n")
    }

    pub fn parse(text: &str) -> Option<Self> {
        let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let field = |name: &str| fields.get(name).map(|value| (*value).to_owned());
        Some(Self {
            host: field("host")?,
            boot: field("boot")?,
            pid: field("pid")?.parse().ok()?,
            started: field("started")?,
            job: field("job")?,
            token: u64::from_str_radix(&field("token")?, 16).ok()?,
            beat: field("beat")?.parse().ok()?,
        })
    }

    /// Whether the process lives, where that can be known.
    fn lives(&self, me: &Self) -> Option<bool> {
        (self.boot == me.boot && !me.boot.is_empty())
            .then(|| start_of(self.pid).is_some_and(|start| start == self.started))
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let job = if self.job.is_empty() { String::new() } else { format!(" of Slurm job {}", self.job) };
        write!(f, "process {}{job} on {}", self.pid, self.host)
    }
}

impl Lock {
    /// Takes the lock, from its dead owner if need be, which is then told to `taken_over`.
    pub fn acquire(
        storage: &Arc<dyn Storage>,
        me: &Holder,
        waits: Waits,
        taken_over: impl FnOnce(&Holder),
    ) -> Result<Self, Refused> {
        let begun = Instant::now();
        let (mut seen, mut since, mut changes) = (String::new(), begun, 0);
        loop {
            match storage.create(NAME, me.text().as_bytes()) {
                Ok(()) => return Ok(Self::hold(storage, me, waits)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Refused::Io(error)),
            }
            let text = match storage.read(NAME) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Refused::Io(error)),
            };
            if text != seen {
                (seen, since, changes) = (text, Instant::now(), changes + 1);
            }
            let holder = Holder::parse(&seen).unwrap_or_else(Holder::nobody);
            let lives = holder.lives(me);
            let is_stale = lives.map_or(since.elapsed() > waits.stale, |lives| !lives);
            if is_stale && take_over(storage.as_ref(), me, &holder)? {
                taken_over(&holder);
                return Ok(Self::hold(storage, me, waits));
            }
            if is_stale && begun.elapsed() > waits.stale + waits.overlap {
                return Err(Refused::Stuck(marker(&holder)));
            }
            if !is_stale && begun.elapsed() > waits.overlap && (lives == Some(true) || changes > 1) {
                return Err(Refused::Owned(Box::new(holder)));
            }
            std::thread::sleep(waits.look);
        }
    }

    /// Whether another job has taken the journal over: it must have believed that this one is gone.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    fn hold(storage: &Arc<dyn Storage>, me: &Holder, waits: Waits) -> Self {
        let (stop, stopped) = channel();
        let lost = Arc::new(AtomicBool::new(false));
        let (flag, storage, mut me) = (Arc::clone(&lost), Arc::clone(storage), me.clone());
        let beating = std::thread::Builder::new().name("rankfold-lock".into()).spawn(move || {
            while stopped.recv_timeout(waits.beat) == Err(RecvTimeoutError::Timeout) {
                match owner(storage.as_ref()) {
                    Some(holder) if holder.token != me.token => return flag.store(true, Ordering::Relaxed),
                    _ => {}
                }
                me.beat += 1;
                let next = format!("{NAME}.{:016x}{UNFINISHED}", me.token);
                // Where this fails (a full disk), the lock looks old at worst.
                let _ = storage.put(&next, me.text().as_bytes()).and_then(|()| storage.rename(&next, NAME));
            }
            let found = owner(storage.as_ref()).or_else(|| owner(storage.as_ref()));
            if found.is_some_and(|holder| holder.token == me.token) {
                // Left behind, it would look like that of a dead job to the next one.
                let _ = storage.remove(NAME).or_else(|_| storage.remove(NAME));
            }
        });
        Self { stop: Some(stop), beating: beating.ok(), lost }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(beating) = self.beating.take() {
            let _ = beating.join();
        }
    }
}

fn owner(storage: &dyn Storage) -> Option<Holder> {
    let text = storage.read(NAME).ok()?;
    Some(Holder::parse(&String::from_utf8_lossy(&text)).unwrap_or_else(Holder::nobody))
}

fn marker(holder: &Holder) -> String {
    format!("{NAME}.{:016x}.taken", holder.token)
}

/// False if somebody else was faster.
fn take_over(storage: &dyn Storage, me: &Holder, stale: &Holder) -> Result<bool, Refused> {
    let marker = marker(stale);
    match storage.create(&marker, me.text().as_bytes()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(Refused::Io(error)),
    }
    // Who comes late finds the lock of whoever was first, and leaves it alone.
    let still = owner(storage).is_some_and(|holder| holder.token == stale.token);
    let taken = if still {
        let mine = format!("{NAME}.{:016x}{UNFINISHED}", me.token);
        storage.put(&mine, me.text().as_bytes()).and_then(|()| storage.rename(&mine, NAME))
    } else {
        Ok(())
    };
    let _ = storage.remove(&marker);
    taken.map(|()| still).map_err(Refused::Io)
}

/// What a process leaves that did not give its journal free.
#[cfg(test)]
pub(super) fn of_a_dead_process() -> String {
    Holder { pid: u32::MAX - 1, ..Holder::this_process(1) }.text()
}

#[cfg(test)]
mod tests {
    use super::super::storage::memory::Memory;
    use super::*;

    fn storage() -> Arc<dyn Storage> {
        Arc::new(Memory::default())
    }

    #[test]
    fn a_holder_survives_the_file() {
        let holder = Holder::this_process(77);
        assert_eq!(Holder::parse(&holder.text()), Some(holder.clone()));
        assert_eq!(holder.lives(&holder), Some(true));
        assert_eq!(Holder { started: "1".into(), ..holder.clone() }.lives(&holder), Some(false));
        assert_eq!(Holder { boot: "elsewhere".into(), ..holder.clone() }.lives(&holder), None);
        assert_eq!(Holder::parse("host=a\n"), None);
    }

    fn dead() -> Holder {
        Holder { pid: u32::MAX - 1, ..Holder::this_process(1) }
    }

    #[test]
    fn a_lock_of_a_dead_process_is_taken_over_by_exactly_one() {
        for _ in 0..20 {
            let storage = storage();
            storage.create(NAME, dead().text().as_bytes()).unwrap();
            let won: usize = std::thread::scope(|scope| {
                let contend = |token| {
                    let storage = &storage;
                    scope.spawn(move || take_over(storage.as_ref(), &Holder::this_process(token), &dead()))
                };
                let all: Vec<_> = (2..8).map(contend).collect();
                all.into_iter().map(|one| usize::from(one.join().unwrap().unwrap())).sum()
            });
            assert_eq!(won, 1);
        }
    }

    #[test]
    fn what_a_power_loss_leaves_of_a_lock_is_taken_over_after_a_while() {
        let millis = Duration::from_millis;
        let waits = Waits { beat: millis(5), stale: millis(20), overlap: millis(15), look: millis(1) };
        for left in [&b""[..], b"\0\0\0\0", b"host=here\nboot="] {
            let storage = storage();
            storage.create(NAME, left).unwrap();
            Lock::acquire(&storage, &Holder::this_process(2), waits, |_| {}).unwrap();
        }
    }

    #[test]
    fn an_owner_on_another_machine_lives_as_long_as_its_lock_changes() {
        let millis = Duration::from_millis;
        let waits = Waits { beat: millis(2), stale: millis(300), overlap: millis(30), look: millis(1) };
        let storage = storage();
        let elsewhere = Holder { boot: "elsewhere".into(), ..Holder::this_process(1) };
        let lock = Lock::acquire(&storage, &elsewhere, waits, |_| {}).unwrap();
        let refused = Lock::acquire(&storage, &Holder::this_process(2), waits, |_| {}).unwrap_err();
        assert!(matches!(refused, Refused::Owned(owner) if owner.token == 1));
        drop(lock);
        // Killed, it leaves its lock behind.
        storage.create(NAME, elsewhere.text().as_bytes()).unwrap();
        Lock::acquire(&storage, &Holder::this_process(3), waits, |from| assert_eq!(from.token, 1)).unwrap();
    }

    #[test]
    fn a_lock_is_free_again_when_it_is_dropped() {
        let storage = storage();
        let first =
            Lock::acquire(&storage, &Holder::this_process(1), Waits::default(), |_| panic!("nobody had it")).unwrap();
        drop(first);
        assert!(storage.read(NAME).is_err());
        storage.create(NAME, dead().text().as_bytes()).unwrap();
        let mut told = None;
        let second =
            Lock::acquire(&storage, &Holder::this_process(2), Waits::default(), |from| told = Some(from.token))
                .unwrap();
        assert!(told == Some(1) && !second.is_lost());
    }
}
