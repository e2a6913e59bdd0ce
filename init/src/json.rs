//! Reads JSON (RFC 8259) into PID1's types: a tree first, then each type takes what it needs from it.
//!
//! Deriving `Deserialize` would do it too, and is what writing uses; but the code derived for reading the boot config
//! alone is 60 kB, a tenth of PID1. Here a field is a call, and an error names the keys that lead to it.

mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::vec;
pub use tree::Json;

/// What is wrong with the text, or with what it says; with the keys that lead there.
#[derive(Debug, PartialEq)]
pub struct JsonError {
    keys: String,
    reason: String,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.keys)?;
        f.write_str(if self.keys.is_empty() { "" } else { ": " })?;
        f.write_str(&self.reason)
    }
}

impl std::error::Error for JsonError {}

impl JsonError {
    fn new(reason: &str) -> JsonError {
        JsonError { keys: String::new(), reason: reason.into() }
    }

    /// Something else was expected.
    pub fn expected(what: &str) -> JsonError {
        JsonError::new(&["expected ", what].concat())
    }

    /// The same, found below `key`.
    pub fn below(mut self, key: &str) -> JsonError {
        let dot = if self.keys.is_empty() { "" } else { "." };
        self.keys = [key, dot, &self.keys].concat();
        self
    }
}

/// Reads one JSON text. Floating-point numbers are refused: nothing that PID1 reads has one.
pub fn from_slice<T: FromJson>(text: &[u8]) -> Result<T, JsonError> {
    T::from_json(tree::parse(text)?)
}

/// A type that can be read.
pub trait FromJson: Sized {
    fn from_json(json: Json) -> Result<Self, JsonError>;

    /// What a key that is not there means; `None`: it has to be there.
    fn absent() -> Option<Self> {
        None
    }
}

impl FromJson for String {
    fn from_json(json: Json) -> Result<String, JsonError> {
        match json {
            Json::String(text) => Ok(text),
            _ => Err(JsonError::expected("a string")),
        }
    }
}

impl FromJson for bool {
    fn from_json(json: Json) -> Result<bool, JsonError> {
        match json {
            Json::Bool(value) => Ok(value),
            _ => Err(JsonError::expected("true or false")),
        }
    }
}

macro_rules! integers {
    ($($type:ident)*) => {$(
        impl FromJson for $type {
            fn from_json(json: Json) -> Result<$type, JsonError> {
                match json {
                    Json::Integer(value) => $type::try_from(value).ok(),
                    _ => None,
                }
                .ok_or_else(|| JsonError::expected(stringify!($type)))
            }
        }
    )*};
}

integers! { u8 u16 u32 u64 i32 }

impl<T: FromJson> FromJson for Option<T> {
    fn from_json(json: Json) -> Result<Option<T>, JsonError> {
        match json {
            Json::Null => Ok(None),
            json => T::from_json(json).map(Some),
        }
    }

    fn absent() -> Option<Option<T>> {
        Some(None)
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(json: Json) -> Result<Vec<T>, JsonError> {
        match json {
            Json::Array(items) => items.into_iter().map(T::from_json).collect(),
            _ => Err(JsonError::expected("a list")),
        }
    }
}

impl<T: FromJson> FromJson for BTreeMap<String, T> {
    fn from_json(json: Json) -> Result<BTreeMap<String, T>, JsonError> {
        let entry = |(key, value): (String, Json)| match T::from_json(value) {
            Ok(value) => Ok((key, value)),
            Err(error) => Err(error.below(&key)),
        };
        members(json)?.map(entry).collect()
    }
}

/// Members of an object, in the text's order.
fn members(json: Json) -> Result<vec::IntoIter<(String, Json)>, JsonError> {
    match json {
        Json::Object(members) => Ok(members.into_iter()),
        _ => Err(JsonError::expected("an object")),
    }
}

/// An object whose members are taken one by one; what is left in the end is an error.
pub struct Object(Vec<(String, Json)>);

impl Object {
    pub fn open(json: Json) -> Result<Object, JsonError> {
        members(json).map(|members| Object(members.collect()))
    }

    /// Takes the value of a key.
    pub fn take<T: FromJson>(&mut self, key: &'static str) -> Result<T, JsonError> {
        match self.remove(key) {
            Some(json) => T::from_json(json).map_err(|e| e.below(key)),
            None => T::absent().ok_or_else(|| JsonError::new(&["`", key, "` is missing"].concat())),
        }
    }

    fn remove(&mut self, key: &str) -> Option<Json> {
        let at = self.0.iter().position(|(k, _)| k == key)?;
        Some(self.0.remove(at).1)
    }

    /// All members must have been taken: an unknown or repeated key is not passed over.
    pub fn close(self) -> Result<(), JsonError> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(JsonError::new(&["`", key, "` is not known, or there twice"].concat())),
        }
    }
}

/// An enum as serde writes it: `"variant"`, or `{"variant": value}`. Gives the variant and its value, else null.
pub fn open_variant(json: Json) -> Result<(String, Json), JsonError> {
    match json {
        Json::String(name) => Ok((name, Json::Null)),
        Json::Object(mut members) if members.len() == 1 => Ok(members.remove(0)),
        _ => Err(JsonError::expected("a string or an object with one key")),
    }
}

/// A struct whose members have the names of its fields.
macro_rules! record {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl $crate::json::FromJson for $type {
            fn from_json(json: $crate::json::Json) -> Result<$type, $crate::json::JsonError> {
                let mut object = $crate::json::Object::open(json)?;
                let value = $type { $($field: object.take(stringify!($field))?),* };
                object.close()?;
                Ok(value)
            }
        }
    };
}
pub(crate) use record;

/// An enum of plain words.
macro_rules! words {
    ($type:ident { $($word:literal => $variant:ident),* $(,)? }) => {
        impl $crate::json::FromJson for $type {
            fn from_json(json: $crate::json::Json) -> Result<$type, $crate::json::JsonError> {
                match &String::from_json(json)?[..] {
                    $($word => Ok($type::$variant),)*
                    _ => Err($crate::json::JsonError::expected(concat!("one of" $(, " ", $word)*))),
                }
            }
        }
    };
}
pub(crate) use words;
