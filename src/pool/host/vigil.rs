//! What rank 0 looks after in a pool while nothing else happens: ranks that fall silent or leave, and the clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Host, LOOK_AFTER};
use crate::error::{Error, ErrorKind};
use crate::master::tasks::Event;
use crate::pool::server::Looked;

/// Whoever waits so long for what actors have is told of, once.
const STARVED: Duration = Duration::from_secs(5);
/// Actors wait so long for ranks that have not come yet.
const GATHERING: Duration = Duration::from_secs(1);
const STARVED_LOOK: Duration = Duration::from_secs(1);
const NAMED_MOST: usize = 4;

/// What tasks wait for that actors have, since when, and whether that was told.
#[derive(Debug, Default)]
pub(super) struct Starved {
    since: BTreeMap<String, (Instant, bool)>,
    looked: Option<Instant>,
}

impl Host<'_> {
    pub(super) fn look_around(&mut self) -> Result<(), Error> {
        if !self.rank.is_time_to_look_around() {
            return Ok(());
        }
        for (worker, silence) in self.rank.look_around()? {
            if !self.entered.contains(&worker) {
                // It is busy with something of the program's own, and waited for.
                continue;
            }
            let seconds = silence.as_secs();
            let (place, waiting) = (self.rank.places[worker].clone(), self.rank.place.clone());
            eprintln!(
                "rankfold: warning: {place} has not answered for {seconds} s; its tasks run on other ranks, and the values \
                 that it alone had are lost (RANKFOLD_PATIENCE=seconds bears longer silence)"
            );
            self.lose(worker, &ErrorKind::Silent { place, seconds, waiting }.into())?;
        }
        Ok(())
    }

    /// A rank is not relied on any more.
    pub(super) fn lose(&mut self, worker: usize, error: &Error) -> Result<(), Error> {
        if !self.rank.lost.insert(worker) {
            return Ok(());
        }
        self.told.remove(&worker);
        self.tasks.handle(Event::Lost { worker, error: error.clone() });
        self.give_up_broadcasting()?;
        // Another rank may have a copy of what it was to send.
        for task in self.bringing.missed(worker) {
            self.tasks.handle(Event::Wanted { task, taken: false });
        }
        Ok(())
    }

    /// Looks at the clock for the tasks that have one.
    pub(super) fn look_after(&mut self) {
        if self.looked.elapsed() < LOOK_AFTER {
            return;
        }
        self.looked = Instant::now();
        if self.begun.is_some_and(|begun| self.looked.duration_since(begun) > GATHERING) {
            self.begun = None;
            self.tasks.handle(Event::Begun);
        }
        for task in self.rests.over(self.looked) {
            self.tasks.handle(Event::Rested { task });
        }
        self.look_for_the_starved();
        let Looked { late, returned, hung } = self.server.look_after(self.rank.patience.bound());
        late.into_iter().for_each(|ended| self.on_ended(0, ended));
        self.tasks.handle(Event::Returned { worker: 0, tasks: returned });
        if let Some(task) = hung {
            let name = self.late.get(&task).cloned().unwrap_or_else(|| self.name_of(task));
            let place = &self.rank.place;
            eprintln!(
                "rankfold: warning: {name} goes on on {place} long after its time was up, and keeps a thread from others"
            );
        }
    }

    /// Actors keep what they were given until they are dropped, which may never happen if the program waits.
    fn look_for_the_starved(&mut self) {
        if self.starved.looked.is_some_and(|looked| self.looked.duration_since(looked) < STARVED_LOOK) {
            return;
        }
        self.starved.looked = Some(self.looked);
        let (now, starved) = (self.looked, self.tasks.starved());
        self.starved.since.retain(|what, _| starved.iter().any(|(_, needed, _)| needed == what));
        for (task, needed, holders) in starved {
            let (since, is_told) = self.starved.since.entry(needed.clone()).or_insert((now, false));
            if now.duration_since(*since) < STARVED || std::mem::replace(is_told, true) {
                continue;
            }
            let mut names: Vec<String> = holders.iter().take(NAMED_MOST).map(|actor| self.name_of(*actor)).collect();
            names.extend((holders.len() > NAMED_MOST).then(|| format!("{} more", holders.len() - NAMED_MOST)));
            let (name, names) = (self.name_of(task), names.join(", "));
            eprintln!(
                "rankfold: warning: {name} needs {needed}, which actors have as long as they live ({names}): it runs when \
                 enough of them are dropped"
            );
        }
    }

    /// A rank that left the program before the pool began will never serve.
    pub(super) fn look_for_leavers(&mut self) {
        let call = self.rank.call;
        let early = self.rank.left.iter().find(|(_, calls)| **calls < call);
        let Some((rank, calls)) = early.map(|(rank, calls)| (*rank, *calls)) else { return };
        let (place, waiting) = (self.rank.places[rank].clone(), self.rank.place.clone());
        let name = self.signature.name.clone();
        self.broken.get_or_insert_with(|| ErrorKind::Left { call: name, place, calls, waiting, number: call }.into());
    }
}
