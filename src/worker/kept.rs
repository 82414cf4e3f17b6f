//! A value that a rank keeps: as the user's type where it was made or used, as bytes where it has arrived.

use std::any::{Any, type_name};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::caught::catch;
use super::scratch::{Scratch, Sheet};
use crate::error::{Error, ErrorKind, Place};
use crate::lock::lock;
use crate::pool::function::Data;
use crate::wire;

/// A result, or a copy of one.
pub(crate) struct Kept(Mutex<Content>);

enum Content {
    /// These bytes, but for so many in front.
    Bytes(Arc<Vec<u8>>, usize),
    Value {
        value: Arc<dyn Any + Send + Sync>,
        codec: &'static Codec,
    },
    /// As bytes in a file.
    OnDisk(Arc<Sheet>),
}

/// What can be done with a value of the type that it was made for.
struct Codec {
    /// Writes it behind what is in the buffer already.
    encode: fn(&(dyn Any + Send + Sync), &mut Vec<u8>) -> Result<(), Unfit>,
    /// How many bytes that would be.
    length: fn(&(dyn Any + Send + Sync)) -> u64,
}

impl Codec {
    fn of<T: Data>() -> &'static Self {
        const {
            &Self {
                encode: |value, buffer| {
                    let value: &T = value.downcast_ref().expect("it was made with a value of this type");
                    wire::encode_after(buffer, value).map_err(|message| unfit::<T>("encoded", message))
                },
                length: |value| {
                    let value: &T = value.downcast_ref().expect("it was made with a value of this type");
                    wire::length_up_to(value, usize::MAX)
                },
            }
        }
    }
}

/// A value of this type cannot be written as bytes, or read from them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Unfit {
    pub type_name: String,
    pub doing: String,
    pub message: String,
}

impl Kept {
    pub fn value<T: Data>(value: T) -> Self {
        Self::shared(Arc::new(value))
    }

    /// A value that others here have as well.
    pub fn shared<T: Data>(value: Arc<T>) -> Self {
        Self(Mutex::new(Content::Value { value, codec: Codec::of::<T>() }))
    }

    /// A value as bytes, with so many other bytes in front.
    pub fn bytes(bytes: impl Into<Arc<Vec<u8>>>, front: usize) -> Self {
        Self(Mutex::new(Content::Bytes(bytes.into(), front)))
    }

    /// The value, to be shared. What has arrived as bytes, or is on the disk, is decoded by the first who asks.
    pub fn share<T: Data>(&self) -> Result<Arc<T>, Unfit> {
        let mut content = self.lock();
        if let Content::OnDisk(sheet) = &*content {
            let mut bytes = Vec::new();
            read_back(sheet, &mut bytes, type_name::<T>())?;
            *content = Content::Bytes(Arc::new(bytes), 0);
        }
        if let Content::Bytes(bytes, front) = &*content {
            let value: T = wire::decode(&bytes[*front..]).map_err(|message| unfit::<T>("decoded", message))?;
            *content = Self::value(value).0.into_inner().unwrap_or_else(PoisonError::into_inner);
        }
        match &*content {
            Content::Value { value, .. } => Arc::clone(value).downcast().map_err(|_| another::<T>()),
            Content::Bytes(..) | Content::OnDisk(_) => unreachable!("it was decoded just now"),
        }
    }

    /// The value itself if nobody shares it, else a copy made by way of bytes.
    pub fn take<T: Data>(self: Arc<Self>) -> Result<T, Unfit> {
        let shared = self.share::<T>()?;
        // Without the kept one, only those who use it share it.
        drop(self);
        Arc::try_unwrap(shared).or_else(|shared| {
            let mut bytes = Vec::new();
            wire::encode_after(&mut bytes, &*shared).map_err(|message| unfit::<T>("encoded", message))?;
            wire::decode(&bytes).map_err(|message| unfit::<T>("decoded", message))
        })
    }

    /// A copy of the value, made by way of bytes.
    pub fn copy<T: Data>(&self) -> Result<T, Unfit> {
        let decode = |bytes: &[u8]| wire::decode(bytes).map_err(|message| unfit::<T>("decoded", message));
        if let Content::Bytes(bytes, front) = self.hold() {
            return decode(&bytes[front..]);
        }
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        decode(&bytes)
    }

    /// Appends the value as bytes. The buffer may hold a part of it after an error.
    pub fn write(&self, buffer: &mut Vec<u8>) -> Result<(), Unfit> {
        match self.hold() {
            Content::Bytes(bytes, front) => {
                buffer.extend_from_slice(&bytes[front..]);
                Ok(())
            }
            Content::Value { value, codec } => (codec.encode)(&*value, buffer),
            Content::OnDisk(sheet) => read_back(&sheet, buffer, "this task"),
        }
    }

    /// How many bytes the value has, or had when it was written.
    pub fn length(&self) -> u64 {
        match self.hold() {
            Content::Bytes(bytes, front) => (bytes.len() - front) as u64,
            Content::Value { value, codec } => (codec.length)(&*value),
            Content::OnDisk(sheet) => sheet.length() as u64,
        }
    }

    /// Puts the value on the disk. False if it cannot go there: somebody shares it, or it cannot be encoded.
    pub fn spill(&self, scratch: &Arc<Scratch>) -> std::io::Result<bool> {
        let held = self.hold();
        let sheet = match &held {
            Content::OnDisk(_) => return Ok(true),
            Content::Bytes(bytes, front) => scratch.write(&bytes[*front..])?,
            Content::Value { value, codec } => {
                let mut bytes = Vec::new();
                // The content has it, and this thread.
                let is_shared = Arc::strong_count(value) > 2;
                if is_shared || !catch(|| (codec.encode)(&**value, &mut bytes)).is_ok_and(|encoded| encoded.is_ok()) {
                    return Ok(false);
                }
                scratch.write(&bytes)?
            }
        };
        let mut content = self.lock();
        // Who has come for it meanwhile has it in memory.
        let is_same = match (&held, &*content) {
            (Content::Bytes(held, _), Content::Bytes(now, _)) => Arc::ptr_eq(held, now),
            (Content::Value { value: held, .. }, Content::Value { value: now, .. }) => {
                Arc::ptr_eq(held, now) && Arc::strong_count(held) == 2
            }
            _ => false,
        };
        let before = is_same.then(|| std::mem::replace(&mut *content, Content::OnDisk(Arc::new(sheet))));
        drop(content);
        discard((before, held));
        Ok(is_same)
    }

    #[cfg(test)]
    pub fn is_on_disk(&self) -> bool {
        matches!(&*self.lock(), Content::OnDisk(_))
    }

    /// The content as it is now, so that nobody waits while something is done with it.
    fn hold(&self) -> Content {
        match &*self.lock() {
            Content::Bytes(bytes, front) => Content::Bytes(Arc::clone(bytes), *front),
            Content::Value { value, codec } => Content::Value { value: Arc::clone(value), codec },
            Content::OnDisk(sheet) => Content::OnDisk(Arc::clone(sheet)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        lock(&self.0)
    }
}

fn unfit<T>(doing: &str, message: String) -> Unfit {
    Unfit { type_name: type_name::<T>().into(), doing: doing.into(), message }
}

/// Appends what is on the disk.
fn read_back(sheet: &Sheet, buffer: &mut Vec<u8>, type_name: &str) -> Result<(), Unfit> {
    sheet.read(buffer).map_err(|error| {
        let message = format!("it was written to a file, since it did not fit in memory: {error}");
        Unfit { type_name: type_name.into(), doing: "read back".into(), message }
    })
}

fn another<T>() -> Unfit {
    unfit::<T>("used", "the value that is kept here is of another type".into())
}

impl Unfit {
    pub fn into_error(self, call: &str, place: &Place) -> Error {
        let Self { type_name, doing, message } = self;
        ErrorKind::Encoding { call: call.to_owned(), place: place.clone(), type_name, doing, message }.into()
    }
}

/// Drops what may be the user's, whose `Drop` may panic.
pub(crate) fn discard<T>(value: T) {
    if let Err(caught) = catch(|| drop(value)) {
        eprintln!(
            "rankfold: error: dropping a value panicked: {} at {}{}",
            caught.message, caught.location, caught.backtrace
        );
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.lock() {
            Content::Bytes(..) => "Kept(bytes)",
            Content::Value { .. } => "Kept(value)",
            Content::OnDisk(_) => "Kept(on disk)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_moved_out_if_nobody_shares_it_and_copied_else() {
        let place = |text: &String| text.as_ptr();
        let text = String::from("a value that is kept on a worker");
        let (before, kept) = (place(&text), Arc::new(Kept::value(text)));
        let shared = kept.share::<String>().unwrap();
        let copy: String = Arc::clone(&kept).take().unwrap();
        assert!(copy == *shared && place(&copy) != before);
        drop(shared);
        assert_eq!(place(&kept.take::<String>().unwrap()), before);
    }

    #[test]
    fn what_arrived_as_bytes_is_decoded_once_and_travels_on() {
        let mut bytes = Vec::new();
        Kept::value(vec![1.5, 2.5]).write(&mut bytes).unwrap();
        let kept = Kept::bytes([vec![7], bytes.clone()].concat(), 1);
        let (one, other) = (kept.share::<Vec<f64>>().unwrap(), kept.share::<Vec<f64>>().unwrap());
        assert!(Arc::ptr_eq(&one, &other) && *one == [1.5, 2.5]);
        let mut again = Vec::new();
        kept.write(&mut again).unwrap();
        assert_eq!(bytes, again);
    }

    #[test]
    fn bytes_that_make_no_sense_are_an_error_that_names_the_type() {
        let unfit = Kept::bytes(vec![1, 2, 3], 0).share::<Vec<u64>>().unwrap_err();
        assert!(unfit.type_name.contains("Vec<u64>") && unfit.doing == "decoded");
    }
}
