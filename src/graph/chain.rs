//! What nodes run as where they are more, or less, than one function: several of them in one task, a value that is known
//! already, and a second copy of a value.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::wire;
use crate::worker::kept::Kept;
use crate::worker::runner::{Made, Reader, SMALL, Trouble};

/// One function of several that run in one task.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Step {
    pub code: Code,
    /// How errors call it, where that is not the function's name.
    pub name: Option<String>,
    #[serde(with = "serde_bytes")]
    pub arguments: Vec<u8>,
    /// How often it reads the value of the step before.
    pub reads: u32,
}

/// The arguments of a task that is made of these steps.
pub(super) fn pack(steps: &[Step]) -> Vec<u8> {
    wire::encode(steps).expect("steps are made of plain data")
}

/// Runs functions one after the other, each with the value of the one before: what lies between them is never written as
/// bytes, and freed as soon as it was read.
pub(super) fn run(reader: &mut Reader<'_>) -> Result<Made, Trouble> {
    let mut steps = reader.value::<Vec<Step>>()?.into_iter().peekable();
    let mut inputs = reader.inputs().to_vec();
    while let Some(Step { code, name, arguments, .. }) = steps.next() {
        let entry = code.entry().ok_or_else(|| Trouble::Internal("this program has no such function".into()))?;
        let Some(next) = steps.peek() else { return entry(&mut Reader::new(&arguments, &inputs)) };
        let mut part = Reader::within(&arguments, &inputs);
        let made = entry(&mut part).map_err(|trouble| {
            let name = name.unwrap_or_else(|| part.function.to_owned());
            Trouble::Part { name, trouble: Box::new(trouble) }
        })?;
        let kept = Arc::new(match made {
            Made::Large(kept, _) => kept,
            Made::Small(bytes) => Kept::bytes(bytes, 0),
            Made::State(_) => return Err(Trouble::Internal("a node has made the state of an actor".into())),
        });
        inputs = vec![kept; next.reads as usize];
    }
    Err(Trouble::Internal("a task came without functions".into()))
}

/// Gives the value whose bytes are the arguments.
#[expect(clippy::unnecessary_wraps, reason = "it is an entry")]
pub(super) fn give(reader: &mut Reader<'_>) -> Result<Made, Trouble> {
    let bytes = reader.rest().to_vec();
    let length = bytes.len() as u64;
    Ok(if bytes.len() <= SMALL { Made::Small(bytes) } else { Made::Large(Kept::bytes(bytes, 0), length) })
}

/// Gives a copy of the value that it needs.
pub(super) fn copy(reader: &mut Reader<'_>) -> Result<Made, Trouble> {
    // By way of bytes, as a type may have no other copies.
    let mut bytes = Vec::new();
    let kept = reader.inputs().first().ok_or_else(|| Trouble::Internal("a copy came without its original".into()))?;
    kept.write(&mut bytes).map_err(Trouble::Unfit)?;
    give(&mut Reader::new(&bytes, &[]))
}
