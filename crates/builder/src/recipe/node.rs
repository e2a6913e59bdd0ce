//! A TOML document as a tree in which every value knows the file and the bytes that it was written in.

use super::place::At;
use super::problem::{FoundProblem, Problem};
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use toml::de::{DeTable, DeValue};

#[derive(Debug, Clone, PartialEq)]
pub struct TomlNode {
    pub at: At,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<TomlNode>),
    /// In the order of the file.
    Table(Vec<TomlEntry>),
    /// What no recipe key takes: a date, an integer beyond 64 bits, an infinite float.
    Other(&'static str),
}

#[derive(Debug, Clone, PartialEq)]
pub struct TomlEntry {
    pub key: String,
    pub key_at: At,
    pub node: TomlNode,
}

/// Parses one file. All syntax errors are found; the tree holds what could be read beside them.
pub fn parse_node(file: usize, text: &str) -> (TomlNode, Vec<FoundProblem>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let problems = errors
        .into_iter()
        .map(|e| {
            let span = e.span().unwrap_or(0..0);
            let at = At { file, start: span.start, end: span.end };
            FoundProblem { at, problem: Problem::Syntax { cause: e.message().to_string() } }
        })
        .collect();
    let at = At { file, start: 0, end: 0 };
    (TomlNode { at, value: table_value(file, table.into_inner()) }, problems)
}

fn table_value(file: usize, table: DeTable<'_>) -> Value {
    let mut entries: Vec<TomlEntry> = table
        .into_iter()
        .map(|(key, value)| {
            let span = key.span();
            let key_at = At { file, start: span.start, end: span.end };
            TomlEntry { key: key.into_inner().into_owned(), key_at, node: node(file, value) }
        })
        .collect();
    entries.sort_by_key(|e| e.key_at.start);
    Value::Table(entries)
}

fn node(file: usize, value: toml::Spanned<DeValue<'_>>) -> TomlNode {
    let span = value.span();
    let value = match value.into_inner() {
        DeValue::Boolean(b) => Value::Bool(b),
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(n) => {
            i64::from_str_radix(n.as_str(), n.radix()).map_or(Value::Other("an integer beyond 64 bits"), Value::Int)
        }
        DeValue::Float(n) => match n.as_str().parse::<f64>() {
            Ok(n) if n.is_finite() => Value::Float(n),
            _ => Value::Other("a float that is no number"),
        },
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::List(items.into_iter().map(|item| node(file, item)).collect()),
        DeValue::Table(table) => table_value(file, table),
    };
    TomlNode { at: At { file, start: span.start, end: span.end }, value }
}

impl TomlNode {
    pub fn get(&self, key: &str) -> Option<&TomlNode> {
        self.entries().iter().find(|e| e.key == key).map(|e| &e.node)
    }

    /// The table's entries; none when it is no table.
    pub fn entries(&self) -> &[TomlEntry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    pub fn remove(&mut self, key: &str) {
        if let Value::Table(entries) = &mut self.value {
            entries.retain(|e| e.key != key);
        }
    }

    /// The list's items; none when it is no list.
    pub fn items(&self) -> &[TomlNode] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.text()
    }

    pub fn is_true(&self, key: &str) -> bool {
        matches!(self.get(key), Some(TomlNode { value: Value::Bool(true), .. }))
    }

    /// Where the value of `key` stands, or this node when there is none.
    pub fn at_of(&self, key: &str) -> At {
        self.get(key).map_or(self.at, |n| n.at)
    }

    /// Where item `i` of the list `key` stands, or as near to it as is known.
    pub fn at_item(&self, key: &str, i: usize) -> At {
        self.get(key).and_then(|list| list.items().get(i)).map_or(self.at_of(key), |n| n.at)
    }

    /// The type's name for messages.
    pub fn type_name(&self) -> &'static str {
        match &self.value {
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Other(name) => name,
        }
    }

    /// This node or one below it is in `flawed`.
    pub fn has_flaw(&self, flawed: &HashSet<At>) -> bool {
        flawed.contains(&self.at)
            || self.items().iter().any(|n| n.has_flaw(flawed))
            || self.entries().iter().any(|e| flawed.contains(&e.key_at) || e.node.has_flaw(flawed))
    }

    /// The typed form of a part; `None` when it has problems that are known already.
    ///
    /// # Errors
    /// What the type does not take, for [`Self::at`].
    pub fn to_typed<T: DeserializeOwned>(&self, flawed: &HashSet<At>) -> Result<Option<T>, FoundProblem> {
        match serde_json::from_value(self.to_json(flawed)) {
            Ok(value) => Ok(Some(value)),
            Err(_) if self.has_flaw(flawed) => Ok(None),
            Err(e) => Err(FoundProblem { at: self.at, problem: Problem::Unfit { cause: e.to_string() } }),
        }
    }

    /// The value as JSON, without what is in `flawed`.
    pub fn to_json(&self, flawed: &HashSet<At>) -> serde_json::Value {
        match &self.value {
            Value::Bool(b) => (*b).into(),
            Value::Int(n) => (*n).into(),
            Value::Float(n) => (*n).into(),
            Value::Text(text) => text.clone().into(),
            Value::List(items) => items.iter().filter(|n| !flawed.contains(&n.at)).map(|n| n.to_json(flawed)).collect(),
            Value::Table(entries) => entries
                .iter()
                .filter(|e| !flawed.contains(&e.node.at) && !flawed.contains(&e.key_at))
                .map(|e| (e.key.clone(), e.node.to_json(flawed)))
                .collect(),
            Value::Other(_) => serde_json::Value::Null,
        }
    }
}
