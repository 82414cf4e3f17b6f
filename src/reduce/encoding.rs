//! Values of the user's types as bytes and back, with errors that name call, rank and type.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Place};
use crate::wire;

/// For the values of one call on one rank.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoding<'c> {
    pub call: &'c str,
    pub place: &'c Place,
}

impl Encoding<'_> {
    pub fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, Error> {
        wire::encode(value).map_err(|message| self.encoding::<T>("encoded", message))
    }

    pub fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Error> {
        wire::decode(bytes).map_err(|message| self.encoding::<T>("decoded", message))
    }

    pub fn encoding<T>(&self, doing: &str, message: String) -> Error {
        let type_name = std::any::type_name::<T>();
        let type_name =
            type_name.strip_prefix("core::option::Option<").map_or(type_name, |rest| &rest[..rest.len() - 1]);
        ErrorKind::Encoding {
            call: self.call.to_owned(),
            place: self.place.clone(),
            type_name: type_name.to_owned(),
            doing: doing.to_owned(),
            message,
        }
        .into()
    }
}
