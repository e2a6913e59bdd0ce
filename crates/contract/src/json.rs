//! Reads JSON (RFC 8259) into PID1's types: a tree first, then each type takes what it needs from it.
//!
//! Deriving `Deserialize` would do it too, and is what writing uses; but the code derived for reading the boot config
//! alone is 60 kB, a tenth of PID1. Here a field is a call: the reader keeps the first error, with the keys that lead to
//! it, and reading goes on with a blank value, so that there is nothing to look at after each call.

mod decode;
mod tree;

use crate::ByName;
use std::fmt;
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

/// Reads one JSON text. Floating-point numbers are refused: nothing that PID1 reads has one.
pub fn from_slice<T: FromJson>(text: &[u8]) -> Result<T, JsonError> {
    let mut reader = Decoder::default();
    let value = T::read(tree::parse(text)?, &mut reader);
    reader.error.map_or(Ok(value), Err)
}

/// A type that can be read.
pub trait FromJson {
    /// Whether a key may be absent; it then reads null.
    const OPTIONAL: bool = false;

    /// Gives any value after an error, which the reader is told.
    fn read(json: Json, reader: &mut Decoder) -> Self;
}

/// Where in the tree reading is, and what was wrong first.
#[derive(Default)]
pub struct Decoder {
    keys: String,
    error: Option<JsonError>,
}

impl Decoder {
    /// Something else was expected here.
    pub fn expected(&mut self, what: &str) {
        self.fail(&["expected ", what]);
    }

    fn fail(&mut self, reason: &[&str]) {
        if self.error.is_none() {
            self.error = Some(JsonError { keys: self.keys.clone(), reason: reason.concat() });
        }
    }

    /// Goes below a key; gives what [`Decoder::leave`] needs.
    fn enter(&mut self, key: &str) -> usize {
        let outer = self.keys.len();
        if outer > 0 {
            self.keys.push('.');
        }
        self.keys.push_str(key);
        outer
    }

    fn leave(&mut self, outer: usize) {
        self.keys.truncate(outer);
    }

    fn integer(&mut self, json: Json, smallest: i128, largest: i128, name: &str) -> i128 {
        match json {
            Json::Integer(value) if (smallest..=largest).contains(&value) => value,
            _ => {
                self.expected(name);
                0
            }
        }
    }

    fn items(&mut self, json: Json, each: &mut dyn FnMut(Json, &mut Decoder)) {
        match json {
            Json::Array(items) => items.into_iter().for_each(|item| each(item, self)),
            _ => self.expected("a list"),
        }
    }

    /// Members of an object, in the text's order.
    fn members(&mut self, json: Json) -> Vec<(String, Json)> {
        match json {
            Json::Object(members) => members,
            _ => {
                self.expected("an object");
                Vec::new()
            }
        }
    }

    /// Which of the words it is.
    pub fn word(&mut self, json: Json, words: &[&str]) -> usize {
        let text = String::read(json, self);
        words.iter().position(|word| *word == text).unwrap_or_else(|| {
            self.expected(&["one of ", &words.join(" ")].concat());
            0
        })
    }

    /// An enum as serde writes it: `"variant"`, or `{"variant": value}`. Gives the variant and its value, else null.
    pub fn variant(&mut self, json: Json) -> (String, Json) {
        match json {
            Json::String(name) => (name, Json::Null),
            Json::Object(mut members) if members.len() == 1 => members.remove(0),
            _ => {
                self.expected("a string or an object with one key");
                (String::new(), Json::Null)
            }
        }
    }
}

impl FromJson for String {
    fn read(json: Json, reader: &mut Decoder) -> String {
        match json {
            Json::String(text) => text,
            _ => {
                reader.expected("a string");
                String::new()
            }
        }
    }
}

impl FromJson for bool {
    fn read(json: Json, reader: &mut Decoder) -> bool {
        match json {
            Json::Bool(value) => value,
            _ => {
                reader.expected("true or false");
                false
            }
        }
    }
}

macro_rules! integers {
    ($($type:ident)*) => {$(
        impl FromJson for $type {
            fn read(json: Json, reader: &mut Decoder) -> $type {
                let value = reader.integer(json, $type::MIN.into(), $type::MAX.into(), stringify!($type));
                $type::try_from(value).unwrap_or_default()
            }
        }
    )*};
}

integers! { u8 u16 u32 u64 i32 }

impl<T: FromJson> FromJson for Option<T> {
    const OPTIONAL: bool = true;

    fn read(json: Json, reader: &mut Decoder) -> Option<T> {
        match json {
            Json::Null => None,
            json => Some(T::read(json, reader)),
        }
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn read(json: Json, reader: &mut Decoder) -> Vec<T> {
        let mut read = Vec::new();
        reader.items(json, &mut |item, reader| read.push(T::read(item, reader)));
        read
    }
}

impl<T: FromJson> FromJson for ByName<T> {
    fn read(json: Json, reader: &mut Decoder) -> ByName<T> {
        let mut read = ByName::default();
        for (key, value) in reader.members(json) {
            let outer = reader.enter(&key);
            read.insert(key, T::read(value, reader));
            reader.leave(outer);
        }
        read
    }
}

/// An object whose members are taken one by one; what is left in the end is an error.
pub struct Object<'r> {
    members: Vec<(String, Json)>,
    reader: &'r mut Decoder,
    outer: usize,
}

impl<'r> Object<'r> {
    pub fn open(json: Json, reader: &'r mut Decoder) -> Object<'r> {
        let outer = reader.keys.len();
        Object { members: reader.members(json), reader, outer }
    }

    /// The object that is the value of a key.
    pub fn open_below(key: &str, json: Json, reader: &'r mut Decoder) -> Object<'r> {
        let outer = reader.enter(key);
        Object { outer, ..Object::open(json, reader) }
    }

    /// Takes the value of a key.
    pub fn take<T: FromJson>(&mut self, key: &str) -> T {
        let json = self.remove(key, T::OPTIONAL);
        let outer = self.reader.enter(key);
        let value = T::read(json, self.reader);
        self.reader.leave(outer);
        value
    }

    fn remove(&mut self, key: &str, optional: bool) -> Json {
        let at = self.members.iter().position(|(k, _)| k == key);
        if at.is_none() && !optional {
            self.reader.fail(&["`", key, "` is missing"]);
        }
        at.map_or(Json::Null, |at| self.members.remove(at).1)
    }

    /// All members must have been taken: an unknown or repeated key is not passed over.
    pub fn close(self) {
        if let Some((key, _)) = self.members.first() {
            self.reader.fail(&["`", key, "` is not known, or there twice"]);
        }
        self.reader.leave(self.outer);
    }
}

/// A struct whose members have the names of its fields.
#[macro_export]
macro_rules! record {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl $crate::json::FromJson for $type {
            fn read(json: $crate::json::Json, reader: &mut $crate::json::Decoder) -> $type {
                let mut object = $crate::json::Object::open(json, reader);
                let value = $type { $($field: object.take(stringify!($field))),* };
                object.close();
                value
            }
        }
    };
}

/// An enum of plain words; the first one is what an error gives.
#[macro_export]
macro_rules! words {
    ($type:ident { $($word:literal => $variant:ident),* $(,)? }) => {
        impl $crate::json::FromJson for $type {
            fn read(json: $crate::json::Json, reader: &mut $crate::json::Decoder) -> $type {
                const VARIANTS: &[$type] = &[$($type::$variant),*];
                VARIANTS[reader.word(json, &[$($word),*])]
            }
        }
    };
}
