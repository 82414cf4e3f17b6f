//! Panics of the user's functions, caught and turned into values with their place and stack.
//!
//! The panic hook runs before the stack is unwound, which is the only moment at which location and stack are known. It
//! speaks up for panics that nobody catches here, and stays silent for the others: their error is reported once.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

use crate::error::{Error, ErrorKind, Place, Role};

/// What a panic said, and where.
#[derive(Debug)]
pub(crate) struct Caught {
    pub message: String,
    pub location: String,
    pub backtrace: String,
}

impl Caught {
    /// The error of a call whose function has panicked at an item.
    pub fn into_error(self, call: &str, place: &Place, role: Role, item: String) -> Error {
        let Self { message, location, backtrace } = self;
        let (call, place) = (call.to_owned(), place.clone());
        ErrorKind::Panicked { call, role, place, item, message, location, backtrace, attempts: 1 }.into()
    }
}

thread_local! {
    /// The rank whose panics this thread's are.
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
    /// How many `catch` are on this thread's stack: one inside another when rayon steals work.
    static CATCHING: Cell<u32> = const { Cell::new(0) };
    static LAST: RefCell<Option<Caught>> = const { RefCell::new(None) };
}

/// Runs `f`; a panic in it becomes a value.
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Caught> {
    install_hook();
    CATCHING.set(CATCHING.get() + 1);
    // The caller discards whatever `f` was changing when it panicked.
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    CATCHING.set(CATCHING.get() - 1);
    result.map_err(|payload| {
        LAST.take().unwrap_or_else(|| Caught {
            // The panic was on another thread (a parallel iterator inside the mapper); the hook spoke there.
            message: message_of(payload.as_ref()),
            location: "another thread of this rank".into(),
            backtrace: String::new(),
        })
    })
}

/// Panics of this thread that nobody catches are introduced with the rank.
pub(crate) fn name_panics_of(place: &Place) {
    install_hook();
    PLACE.set(Some(place.clone()));
}

fn install_hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let outer = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if CATCHING.get() == 0 {
                PLACE.with_borrow(|place| {
                    place.iter().for_each(|place| eprintln!("rankfold: {place} panics:"));
                });
                outer(info);
            } else {
                LAST.set(Some(describe(info)));
            }
        }));
    });
}

fn describe(info: &PanicHookInfo<'_>) -> Caught {
    let backtrace = Backtrace::capture();
    Caught {
        message: message_of(info.payload()),
        location: info.location().map_or_else(|| "unknown place".into(), ToString::to_string),
        backtrace: match backtrace.status() {
            BacktraceStatus::Captured => format!("\n{backtrace}"),
            _ => "\n  set RUST_BACKTRACE=1 to see the stack".into(),
        },
    }
}

fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic whose payload is not text")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_tells_what_and_where() {
        let caught = catch(|| panic!("no {}", 7)).unwrap_err();
        assert_eq!(caught.message, "no 7");
        assert!(caught.location.contains("caught.rs"), "{}", caught.location);
        assert_eq!(catch(|| 5).unwrap(), 5);
    }

    #[test]
    fn a_payload_that_is_not_text_is_said_to_be_so() {
        let caught = catch(|| panic::resume_unwind(Box::new(5u8))).unwrap_err();
        assert!(caught.message.contains("not text"));
    }
}
