//! Before ranks exchange what each of them has, they show each other a card that says what they are about to do.
//!
//! MPI leaves open what happens when ranks start different collectives, or the same one with other lengths: wrong results,
//! a crash, silence. So every operation for which ranks meet by themselves begins with one that is always the same: all
//! gather cards of [`CARD`] bytes, with a checksum of what each believes to be done. Where these differ, every rank sees it,
//! and they tell each other in full. Few bytes have room on the card itself, and are where they should be after that one
//! step. The end of the program is such a meeting, too.
//!
//! A rank that makes a call with batches, or opens a pool, does not come to the meeting at all. Whoever waits there for more
//! than a moment says so to rank 0, in the words in which such calls begin, and rank 0 compares.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::rank::Rank;
use crate::transport::Collective;
use crate::transport::wait::{Mood, Waiter};
use crate::wire::{self, Message, Signature, ToMaster, ToWorker};

/// The bytes of a card.
const CARD: usize = 64;
/// What has room on it beside the checksum.
pub(crate) const INLINE: usize = CARD - 8;
/// What a card says at the end of the program, in place of a checksum, which is never this.
const LEAVING: u32 = 0;
/// Looks before the core is given to somebody else; some libraries give it away in each of them.
const POLLS: u32 = 32;
/// After so long, somebody may be somewhere else.
const A_MOMENT: Duration = Duration::from_millis(100);

/// After so long, whoever waits at the terminal is told for whom.
const LATE: Duration = Duration::from_secs(5);

/// What a rank is about to do.
pub(crate) trait Intent {
    /// How it is called in messages.
    fn name(&self) -> &str;

    /// Of all that ranks must agree on; another intent has another one. Asked each time, so it must be cheap.
    fn checksum(&self) -> u32;

    /// The same in full, where ranks differ.
    fn signature(&self) -> Signature;
}

impl Intent for Signature {
    fn name(&self) -> &str {
        &self.name
    }

    fn checksum(&self) -> u32 {
        crc32fast::hash(&encode(self))
    }

    fn signature(&self) -> Signature {
        self.clone()
    }
}

/// Meets all ranks, which must be about to do the same. Gives what each of them has put on its card. Collective.
///
/// # Errors
///
/// Ranks disagree, make another call, have left, or were given up before: the same error on every rank.
pub(crate) fn meet(rank: &mut Rank, intent: &impl Intent, inline: &[u8]) -> Result<Vec<[u8; INLINE]>> {
    assert!(inline.len() <= INLINE, "{} bytes on a card", inline.len());
    let mut card = vec![0; CARD];
    let title = title(intent.checksum().max(LEAVING + 1), rank);
    card[..8].copy_from_slice(&title);
    card[8..8 + inline.len()].copy_from_slice(inline);
    if rank.size() == 1 {
        return Ok(vec![card[8..].try_into().expect("the rest of a card")]);
    }
    all_are_here(rank, intent.name())?;
    let cards = gather(rank, intent, card)?;
    rank.begin_vigil();
    let cards = || cards.chunks_exact(CARD);
    if let Some((other, (LEAVING, calls))) = cards().map(read_title).enumerate().find(|(_, (what, _))| *what == LEAVING)
    {
        let waiting = cards().map(read_title).position(|(what, _)| what != LEAVING).unwrap_or_default();
        return Err(left(rank, intent.name(), (other, calls), (waiting, rank.call)).on_rank(rank.rank()));
    }
    if cards().any(|card| card[..8] != title) {
        return Err(disagreement(rank, &intent.signature())?);
    }
    Ok(cards().map(|card| card[8..].try_into().expect("the rest of a card")).collect())
}

/// What is to be done, and at which call of the rank.
fn title(what: u32, rank: &Rank) -> [u8; 8] {
    (u64::from(what) | rank.call << 32).to_le_bytes()
}

fn read_title(card: &[u8]) -> (u32, u64) {
    let title = u64::from_le_bytes(card[..8].try_into().expect("eight bytes"));
    (title as u32, title >> 32)
}

/// A rank has left after some calls, and another one waits in a call of this number.
fn left(rank: &Rank, call: &str, (other, calls): (usize, u64), (waiting, number): (usize, u64)) -> Error {
    let [place, waiting] = [other, waiting].map(|rank_of| rank.places[rank_of].clone());
    ErrorKind::Left { call: call.to_owned(), place, calls, waiting, number }.into()
}

/// The last meeting: waits until all ranks have come to the end of the program. Those that still want to make a call are told
/// that this rank will not. Ends early where nobody can meet any more.
pub(crate) fn part(rank: &mut Rank) -> Result<()> {
    let mut is_told = false;
    while rank.size() > 1 && rank.may_meet() {
        let mut card = vec![0; CARD];
        card[..8].copy_from_slice(&title(LEAVING, rank));
        rank.start(Collective::Cards(card))?;
        let mut waiter = Waiter::default();
        let cards = loop {
            if let Some(mut cards) = rank.test()? {
                break cards.swap_remove(0);
            }
            while let Some((_, message)) = rank.next_message()? {
                tracing::debug!("dropped {message:?} at the end");
            }
            if !rank.may_meet() {
                return Ok(());
            }
            waiter.wait(Mood::without_work(&rank.transport), std::thread::sleep);
        };
        let other = cards.chunks_exact(CARD).map(read_title).enumerate().find(|(_, (what, _))| *what != LEAVING);
        let Some((other, (_, number))) = other else { return Ok(()) };
        if rank.rank() == 0 && !std::mem::replace(&mut is_told, true) {
            // Rank 0 reports for all, and is not among those who have the error.
            let error = left(rank, "an operation of all ranks", (0, rank.call), (other, number));
            eprintln!("rankfold: error: {error}");
        }
    }
    Ok(())
}

fn encode(signature: &Signature) -> Vec<u8> {
    wire::encode(signature).expect("a signature is made of plain data")
}

fn gather(rank: &mut Rank, intent: &impl Intent, card: Vec<u8>) -> Result<Vec<u8>> {
    rank.start(Collective::Cards(card))?;
    let (mut waiter, begun, mut polls) = (Waiter::default(), Instant::now(), 0u32);
    let mut lobby: Option<Lobby> = None;
    loop {
        if let Some(mut cards) = rank.test()? {
            return Ok(cards.swap_remove(0));
        }
        polls += 1;
        if polls % POLLS != 0 {
            continue;
        }
        if begun.elapsed() < A_MOMENT {
            waiter.wait(Mood::Meeting, std::thread::sleep);
            continue;
        }
        let lobby = match &mut lobby {
            Some(lobby) => lobby,
            None => lobby.insert(Lobby::enter(rank, intent)?),
        };
        if let Some(error) = lobby.look_around(rank, intent)? {
            return Err(error.on_rank(rank.rank()));
        }
        // Others may be in code of their own for long, and this rank's poll is what lets the library go on.
        waiter.wait(Mood::without_work(&rank.transport), std::thread::sleep);
    }
}

/// Where ranks wait for those who are late. A rank may come as late as it likes; but one that has come, and then falls silent,
/// is not waited for beyond the patience that there is elsewhere.
struct Lobby {
    since: Instant,
    /// Those of whom this rank knows that they have come: rank 0 of all, the others of rank 0.
    here: BTreeSet<usize>,
    has_named_the_late: bool,
}

impl Lobby {
    fn enter(rank: &mut Rank, intent: &impl Intent) -> Result<Self> {
        if rank.rank() > 0 {
            rank.send(0, Message::ToMaster(ToMaster::Hello(Ok(intent.signature()))))?;
        }
        Ok(Self { since: Instant::now(), here: BTreeSet::new(), has_named_the_late: false })
    }

    /// Why the meeting will not take place, if that has turned out. Nobody waits for it any more then, on any rank.
    ///
    /// Whoever has left comes as well, with a card that says so.
    fn look_around(&mut self, rank: &mut Rank, intent: &impl Intent) -> Result<Option<Error>> {
        while let Some((from, message)) = rank.next_message()? {
            self.here.insert(from);
            let error = match message {
                Message::ToMaster(ToMaster::Hello(Ok(theirs))) => {
                    let other = rank.places[from].clone();
                    let disagreement =
                        |differing| ErrorKind::disagreement(intent.name(), differing, rank.place.clone(), other).into();
                    intent.signature().difference(&theirs).map(disagreement)
                }
                Message::ToMaster(ToMaster::Hello(Err(error))) => Some(error),
                Message::ToWorker(ToWorker::Stop(error)) => {
                    rank.go_adrift()?;
                    rank.send(0, Message::ToMaster(ToMaster::Stopped))?;
                    return Ok(Some(error));
                }
                _ => None,
            };
            if let Some(error) = error {
                return call_off(rank, error).map(Some);
            }
        }
        if rank.is_time_to_look_around() {
            let silent = rank.look_around()?;
            if let Some((other, silence)) = silent.into_iter().find(|(other, _)| self.here.contains(other)) {
                return Err(rank.silent(other, silence));
            }
        }
        if rank.rank() == 0 && self.since.elapsed() > LATE && !std::mem::replace(&mut self.has_named_the_late, true) {
            let is_late = |other: &usize| !self.here.contains(other);
            let late: Vec<String> =
                (1..rank.size()).filter(is_late).map(|other| rank.places[other].to_string()).collect();
            eprintln!("rankfold: {} waits for {}", intent.name(), late.join(", "));
        }
        Ok(None)
    }
}

/// On rank 0: tells all others that there is no meeting.
fn call_off(rank: &mut Rank, error: Error) -> Result<Error> {
    rank.go_adrift()?;
    for other in 1..rank.size() {
        rank.send(other, Message::ToWorker(ToWorker::Stop(error.clone())))?;
        rank.send(other, Message::ToWorker(ToWorker::Release { lost: Vec::new() }))?;
    }
    Ok(error)
}

/// Ranks have met that do not mean the same. They all know, so they can tell each other.
fn disagreement(rank: &mut Rank, signature: &Signature) -> Result<Error> {
    let all = rank.collective(Collective::AllGather(encode(signature)))?;
    let all: Vec<Signature> = all
        .iter()
        .map(|bytes| wire::decode(bytes).map_err(|error| rank.internal(&signature.name, error)))
        .collect::<Result<_>>()?;
    let differing = all.iter().enumerate().find_map(|(other, theirs)| Some((other, all[0].difference(theirs)?)));
    let Some((other, differing)) = differing else {
        return Ok(rank.internal(&signature.name, "ranks have made different numbers of calls".into()));
    };
    let error: Error =
        ErrorKind::disagreement(&all[0].name, differing, rank.places[0].clone(), rank.places[other].clone()).into();
    Ok(error.on_rank(rank.rank()))
}

/// Whether all ranks can meet; the same answer on every rank.
pub(crate) fn all_are_here(rank: &Rank, call: &str) -> Result<()> {
    if rank.may_meet() {
        return Ok(());
    }
    let lost: Vec<String> = rank.lost.iter().map(|lost| rank.places[*lost].to_string()).collect();
    let problem = if lost.is_empty() {
        "an earlier operation of all ranks was called off, and MPI cannot begin another".to_owned()
    } else {
        format!("it needs every rank, and {} has fallen silent in an earlier call", lost.join(", "))
    };
    let remedy = "start the program again; calls with a journal go on where they were".to_owned();
    Err(Error::from(ErrorKind::Refused { call: call.to_owned(), problem, remedy }).on_rank(rank.rank()))
}
