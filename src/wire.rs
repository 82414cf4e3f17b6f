//! Every message between ranks: one enum for each direction, and the one place that names the encoding.
//!
//! A message belongs to a numbered call; ranks make the same calls in the same order, so a message of a call that is
//! over is dropped and one of a call that has not begun here waits.

use std::time::Duration;

use bincode::config::{Configuration, Fixint, LittleEndian};
use bincode::error::DecodeError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::error::Error;
use crate::extent::{Extent, Leaves};
use crate::journal::Notes;
use crate::master::tasks::{Order, TaskId};
use crate::pool::desk::Timing;
use crate::worker::usage::Usage;

/// Raised when a message changes; ranks with another version are refused when the program starts.
pub(crate) const VERSION: u32 = 7;

/// A message with the number of the call that it belongs to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub call: u64,
    pub message: Message,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    ToWorker(ToWorker),
    ToMaster(ToMaster),
    /// In pools.
    ToServer(ToServer),
    FromServer(FromServer),
    /// The sender has its result of this call, and has gone back to the program: it is silent from now on.
    Through,
    /// The sender will make no further call.
    Leave,
    /// An operation of all ranks was called off after some had begun it: nobody is to begin another.
    Adrift,
    /// In a step on shards, to rank 0: the sender has no item left in this turn.
    Idle {
        turn: u32,
    },
    /// From rank 0: some rank has none, and everybody is to end this turn.
    TurnOver {
        turn: u32,
    },
}

impl Message {
    pub fn is_beat(&self) -> bool {
        matches!(self, Self::ToWorker(ToWorker::Beat) | Self::ToMaster(ToMaster::Beat))
    }
}

/// From the master to a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// How the input is divided, for a worker that could not know its length.
    Begin { leaves: Leaves },
    /// Compute this batch; `parcel` holds its items where the source ships them.
    Assign {
        batch: Extent,
        #[serde(with = "serde_bytes")]
        parcel: Vec<u8>,
    },
    /// Give this batch back if it has not been started, else what is left of it.
    Recall { batch: Extent },
    /// Every leaf is done: go on to the reduction, without the ranks that are lost.
    Finish { lost: Vec<usize> },
    /// The call has failed: stop computing and answer `Stopped`.
    Stop(Error),
    /// Nobody computes any more: return the error. Not before, so that rank 0 is the first to tell it.
    Release { lost: Vec<usize> },
    /// The call has a journal: load what earlier jobs have left, answer `Resumed`, and record from now on.
    Resume(Notes),
    /// Rank 0 lives.
    Beat,
}

/// From a worker to the master.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ToMaster {
    /// The worker has entered the call.
    Hello(Result<Signature, Error>),
    /// The batch was computed, but for the parts in `rest`, which are left undone because it was recalled.
    Done {
        batch: Extent,
        rest: Vec<Extent>,
        cost: Cost,
    },
    Failed {
        batch: Extent,
        error: Error,
    },
    /// A recalled batch that was not started.
    Returned {
        batch: Extent,
    },
    /// What earlier jobs have left is loaded; or the call cannot be completed, also later.
    Resumed(Result<(), Error>),
    /// This rank was asked to end, by a signal.
    Interrupted {
        reason: String,
        /// How long it will be let live.
        grace: Duration,
    },
    /// Nothing runs here any more.
    Stopped,
    /// The worker lives, and has nothing else to say.
    Beat,
}

/// To a rank that serves a pool, from rank 0 or, for a value, from another one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToServer {
    /// Run these tasks.
    Run(Vec<Assignment>),
    /// Give back those of these tasks that have not begun.
    Recall(Vec<TaskId>),
    /// Give back this task if it has not begun, else ask it to stop.
    Cancel(TaskId),
    /// Forget these values.
    Free(Vec<TaskId>),
    /// This rank is lost: give back the tasks that wait for values of its.
    Miss(usize),
    /// Send this value to the rank that asks.
    Fetch(TaskId),
    /// What became of tasks that were submitted there.
    Tell(Vec<Told>),
    /// A run with a journal begins, or ends: signals are rank 0's business meanwhile.
    Watch(bool),
    /// Take part in the broadcast of this value, and answer `Met` with a copy of it.
    Broadcast(TaskId),
    /// Do not wait for the broadcast any more, nor for any other.
    GiveUp,
    /// The pool is over. These ranks have not answered.
    Finish { lost: Vec<usize> },
}

/// From a rank that serves a pool, to rank 0.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromServer {
    Ended(Vec<EndedTask>),
    /// Those that were asked for and had not begun.
    Returned(Vec<TaskId>),
    /// What tasks of this rank want of others.
    Asked(Vec<Asked>),
    /// This task should have ended long ago: the rank that runs it is not to be relied on.
    Hung(TaskId),
    /// The broadcast of this value is complete here.
    Met(TaskId),
}

/// What a task, on any rank, wants of tasks that it submits.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Asked {
    Submit(Box<Submission>),
    Want { task: TaskId, taken: bool },
    Release(TaskId),
    Detach(TaskId),
    Cancel(TaskId),
}

/// A task that another one submits.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Submission {
    pub task: TaskId,
    pub order: Order,
    pub name: String,
    pub code: Code,
    #[serde(with = "serde_bytes")]
    pub arguments: Vec<u8>,
    pub timeout: Option<Duration>,
    pub backoff: Duration,
}

/// What the rank that has submitted a task learns of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    /// It has come to its end; a small value comes along.
    Settled { task: TaskId, failed: Option<Error>, small: Option<serde_bytes::ByteBuf>, timing: Option<Box<Timing>> },
    /// Its value, which is wanted, is there.
    Bring { task: TaskId, from: usize, taken: bool },
    /// Its value is lost.
    Unavailable { task: TaskId, error: Error },
}

/// A task on its way to the rank that is to run it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub task: TaskId,
    pub code: Code,
    #[serde(with = "serde_bytes")]
    pub arguments: Vec<u8>,
    pub inputs: Vec<Input>,
    /// How deep it was submitted in others.
    pub depth: u32,
    /// The actor that it is a call of.
    pub actor: Option<TaskId>,
    pub timeout: Option<Duration>,
}

/// A value that a task needs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Input {
    pub value: TaskId,
    pub from: InputFrom,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum InputFrom {
    Here(#[serde(with = "serde_bytes")] Vec<u8>),
    Rank(usize),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EndedTask {
    pub task: TaskId,
    pub result: TaskResult,
    pub usage: Usage,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum TaskResult {
    Small(#[serde(with = "serde_bytes")] Vec<u8>),
    /// It stays where it was made, and has about so many bytes.
    Large(u64),
    Failed(Error),
}

/// What a batch cost its worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// Seconds spent in the user's functions, summed over threads.
    pub busy: f64,
    /// Seconds between the end of the batch before and the start of this one, in which nothing was computed.
    pub gap: f64,
}

/// What a rank believes the call to be. Ranks that differ in any field are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signature {
    pub operation: String,
    pub name: String,
    pub source: String,
    /// The number of indices, or `None` where rank 0 alone knows.
    pub len: Option<u64>,
    pub fingerprint: u64,
    pub leaf: Option<u64>,
    pub result: String,
    /// The types of the mapper and the combiner, which say where they are defined.
    pub functions: String,
    pub retries: u32,
    /// Whether every rank gets the result.
    pub to_all: bool,
    /// Whether there is a value for empty input.
    pub has_identity: bool,
    /// The journal's folder, where there is one.
    pub journal: Option<String>,
    /// Whether items that end ranks are left out.
    pub skips_poisoned: bool,
}

impl Signature {
    /// The first field in which two ranks differ: what it is called, and both values.
    pub fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let show = |len: Option<u64>| len.map_or_else(|| "left to the library".to_owned(), |len| len.to_string());
        let differ = |what, a: String, b: String| (a != b).then_some((what, a, b));
        differ("operation", self.operation.clone(), other.operation.clone())
            .or_else(|| differ("name of the call", format!("{:?}", self.name), format!("{:?}", other.name)))
            .or_else(|| differ("kind of input", self.source.clone(), other.source.clone()))
            .or_else(|| differ("type of the result", self.result.clone(), other.result.clone()))
            .or_else(|| differ("functions", self.functions.clone(), other.functions.clone()))
            .or_else(|| {
                let len = |signature: &Self| signature.len.map_or(String::new(), |len| format!("length {len}"));
                if self.len.is_none() || other.len.is_none() {
                    None
                } else {
                    differ("length of the input", len(self), len(other))
                }
            })
            .or_else(|| differ("number of retries", self.retries.to_string(), other.retries.to_string()))
            .or_else(|| {
                let place = |signature: &Self| if signature.to_all { "every rank" } else { "rank 0 alone" }.to_owned();
                differ("ranks that get the result", place(self), place(other))
            })
            .or_else(|| {
                let given = |signature: &Self| if signature.has_identity { "an identity" } else { "none" }.to_owned();
                differ("value for empty input", given(self), given(other))
            })
            .or_else(|| {
                let folder = |signature: &Self| signature.journal.clone().unwrap_or_else(|| "none".to_owned());
                differ("journal", folder(self), folder(other))
            })
            .or_else(|| {
                let what =
                    |signature: &Self| if signature.skips_poisoned { "skipped" } else { "not skipped" }.to_owned();
                differ("poisoned items", what(self), what(other))
            })
            .or_else(|| differ("leaf size", show(self.leaf), show(other.leaf)))
            .or_else(|| {
                let content = |signature: &Self| format!("fingerprint {:08x}", signature.fingerprint);
                differ("content of the input", content(self), content(other))
            })
    }
}

const CONFIG: Configuration<LittleEndian, Fixint> =
    bincode::config::standard().with_little_endian().with_fixed_int_encoding();

/// Arguments, names, and the suspects of a run on 100,000 ranks are shorter, all together.
const SMALL: usize = 1 << 26;

/// A value as bytes.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, String> {
    bincode::serde::encode_to_vec(value, CONFIG).map_err(|error| error.to_string())
}

/// Appends a value to what is in the buffer.
pub(crate) fn encode_after<T: Serialize + ?Sized>(buffer: &mut Vec<u8>, value: &T) -> Result<(), String> {
    bincode::serde::encode_into_std_write(value, buffer, CONFIG).map(drop).map_err(|error| error.to_string())
}

/// A value as bytes, unless it has more than `most`.
pub(crate) fn encode_up_to<T: Serialize + ?Sized>(value: &T, most: usize) -> Result<Option<Vec<u8>>, String> {
    let mut bounded = Bounded { bytes: Vec::new(), length: 0, most, is_kept: true };
    match bincode::serde::encode_into_writer(value, &mut bounded, CONFIG) {
        Ok(()) => Ok(Some(bounded.bytes)),
        Err(_) if bounded.length > most => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// How many bytes a value has, or `most` if it has more.
pub(crate) fn length_up_to<T: Serialize + ?Sized>(value: &T, most: usize) -> u64 {
    let mut bounded = Bounded { bytes: Vec::new(), length: 0, most, is_kept: false };
    // An error means that it has more; or that it has no bytes at all, which whoever wants to have them is told.
    let _ = bincode::serde::encode_into_writer(value, &mut bounded, CONFIG);
    bounded.length.min(most) as u64
}

/// Takes bytes until there are too many.
struct Bounded {
    bytes: Vec<u8>,
    length: usize,
    most: usize,
    is_kept: bool,
}

impl bincode::enc::write::Writer for Bounded {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.length += bytes.len();
        if self.length > self.most {
            return Err(bincode::error::EncodeError::UnexpectedEnd);
        }
        if self.is_kept {
            self.bytes.extend_from_slice(bytes);
        }
        Ok(())
    }
}

/// The first value of several, and the bytes of the others.
pub(crate) fn decode_first<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), String> {
    let (value, read) = bincode::serde::decode_from_slice(bytes, CONFIG).map_err(|error| error.to_string())?;
    Ok((value, &bytes[read..]))
}

/// The value that `encode` made these bytes from.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    all_of(bytes, bincode::serde::decode_from_slice(bytes, CONFIG))
}

/// As `decode`, of something small that was read from a file: a length that makes no sense is refused before there is
/// memory for it.
pub(crate) fn decode_small<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    all_of(bytes, bincode::serde::decode_from_slice(bytes, CONFIG.with_limit::<SMALL>()))
}

fn all_of<T>(bytes: &[u8], decoded: Result<(T, usize), DecodeError>) -> Result<T, String> {
    let (value, read) = decoded.map_err(|error| error.to_string())?;
    if read == bytes.len() { Ok(value) } else { Err(format!("{} bytes are left over", bytes.len() - read)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_makes_no_sense_is_refused_before_there_is_memory_for_it() {
        for length in [1u64 << 40, u64::MAX] {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.extend([7; 100]);
            assert!(decode_small::<Vec<u64>>(&bytes).is_err());
            assert!(decode_small::<(String, u64)>(&bytes).is_err());
        }
        assert_eq!(decode_small(&encode(&("a", 3u64)).unwrap()), Ok(("a".to_owned(), 3u64)));
    }

    #[test]
    fn a_message_survives_the_wire() {
        let sent = Envelope {
            call: 3,
            message: Message::ToMaster(ToMaster::Done {
                batch: Extent::new(8, 4),
                rest: vec![Extent::new(10, 2)],
                cost: Cost { busy: 0.5, gap: 0.0 },
            }),
        };
        let bytes = encode(&sent).unwrap();
        assert_eq!(encode_up_to(&sent, bytes.len()), Ok(Some(bytes.clone())));
        assert_eq!(encode_up_to(&sent, bytes.len() - 1), Ok(None));
        assert_eq!((length_up_to(&sent, 5), length_up_to(&sent, 5000)), (5, bytes.len() as u64));
        let received: Envelope = decode(&bytes).unwrap();
        assert_eq!(format!("{sent:?}"), format!("{received:?}"));
        assert!(decode::<Envelope>(&bytes[..bytes.len() - 1]).is_err());
        assert!(decode::<Envelope>(&[bytes, vec![0]].concat()).is_err());
    }
}
