//! What can be wrong with a recipe, and how it is said.

use super::place::{At, Origin};
use super::sources::Sources;
use crate::entry::PathProblem;
use crate::root_mode::{RootMode, any_of};
use std::path::PathBuf;

/// A problem and the place that it points at.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundProblem {
    pub at: At,
    pub problem: Problem,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Problem {
    #[error("not TOML: {cause}")]
    Syntax { cause: String },
    #[error("unknown key `{key}`")]
    UnknownKey { key: String, known: Vec<String> },
    #[error("wrong type: expected {expected}, found {found}")]
    WrongType { expected: String, found: &'static str },
    #[error("`{found}` is no value of this key")]
    NotAChoice { found: String, choices: Vec<String> },
    #[error("{found} is out of range: expected {least} to {most}")]
    OutOfRange { found: i64, least: i64, most: i64 },
    #[error("missing key `{key}`")]
    MissingKey { key: String, place: String },
    #[error("{place} has {} of {}, expected exactly one", names_or_none(found), names(choices))]
    NotExactlyOne { place: String, choices: Vec<String>, found: Vec<String> },
    #[error("{place} has none of {}", names(choices))]
    NoneOf { place: String, choices: Vec<String> },
    #[error("{what} `{name}` is written twice: first at {first}")]
    Duplicate { what: &'static str, name: String, first: Origin },
    #[error("{what} `{name}` does not exist")]
    Unknown { what: &'static str, name: String, known: Vec<String> },
    #[error("`{found}` is not {expected}")]
    BadValue { found: String, expected: &'static str, example: &'static str },
    #[error("`{key}` holds a NUL character, which no path, name or argument can")]
    Nul { key: String },
    #[error("`{found}` is not where a network root comes from: {}, host and place", any_of(quoted_schemes()))]
    NoRootSource { found: String },
    #[error("bad glob `{pattern}`: {cause}")]
    BadGlob { pattern: String, cause: String },
    #[error("bad path `{path}`: {cause}")]
    BadPath { path: String, cause: PathProblem },
    #[error("{what} `{}` is not there", path.display())]
    MissingPath { what: &'static str, path: PathBuf },
    #[error("cannot read `{}`: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: String },
    #[error("`extends` goes in a circle: {}", chain.join(" -> "))]
    ExtendsCycle { chain: Vec<String> },
    #[error("services wait for each other in a circle: {}", chain.join(" -> "))]
    ServiceCycle { chain: Vec<String> },
    #[error("module sets hold each other in a circle: {}", chain.join(" -> "))]
    SetCycle { chain: Vec<String> },
    #[error("{what} `{name}` cannot be {}: nothing that this file extends has it", if *key == "remove" { "removed" } else { "replaced" })]
    NothingToChange { what: &'static str, name: String, key: &'static str },
    #[error("`{name}` cannot be taken back: nothing that this file extends excludes it")]
    NotExcluded { name: String },
    #[error("variable `{name}` is {expected}, but {place} is {found}")]
    VarType { name: String, expected: &'static str, place: &'static str, found: String },
    #[error("`{name}` is filled in on the node and cannot be a variable of a recipe")]
    ReservedVar { name: String },
    #[error("`{text}` has a `${{` without its `}}`")]
    OpenReference { text: String },
    #[error("bad condition `{text}`: {cause}")]
    BadCondition { text: String, cause: &'static str },
    #[error("`{key}` is not used: {reason}")]
    NotUsed { key: &'static str, reason: &'static str },
    #[error("{what} has {found} bytes: at most {most} leave room for what is added at boot")]
    TooLong { what: &'static str, found: usize, most: usize },
    #[error("line {line} of `{file}` is no modalias: `{found}`")]
    BadModalias { file: String, line: u32, found: String },
    #[error("{what} cannot be {place}: {reason}")]
    CannotBe { what: String, place: &'static str, reason: &'static str, instead: &'static str },
    #[error("{what} in {place}: whoever can fetch the image can read it")]
    Secret { what: &'static str, place: String },
    #[error("{cause}")]
    Unfit { cause: String },
}

impl Problem {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Syntax { .. } => {
                "correct the TOML here; what comes after it in this file was not fully checked".into()
            }
            Self::UnknownKey { key, known } => suggest(key, known, "known here"),
            Self::WrongType { expected, .. } => format!("write {expected}"),
            Self::NotAChoice { found, choices } => suggest(found, choices, "possible"),
            Self::OutOfRange { .. } => "take a number in that range".into(),
            Self::MissingKey { key, place } => format!("add `{key} = ...` to {place}"),
            Self::NotExactlyOne { choices, .. } => format!("write one of {} and no other of them", names(choices)),
            Self::NoneOf { choices, .. } => format!("write at least one of {}", names(choices)),
            Self::Duplicate { .. } => "give one of them another name, or join them".into(),
            Self::Unknown { what: "variable", name, known } => {
                format!("{}; `$${{{name}}}` stands for the text itself", suggest(name, known, "declared in [vars]"))
            }
            Self::Unknown { name, known, .. } => suggest(name, known, "there are"),
            Self::BadValue { example, .. } => format!("write for instance `{example}`"),
            Self::Nul { .. } => "take `\\u0000` out of it".into(),
            Self::NoRootSource { .. } => "write for instance `nbd://192.0.2.1/worker`".into(),
            Self::BadGlob { .. } => {
                "`*` and `?` match inside a name, `**` across folders, `[ab]` and `{a,b}` choose".into()
            }
            Self::BadPath { .. } => "write the path from the root of the image, without `..`".into(),
            Self::MissingPath { .. } => {
                "relative paths start at the folder of the recipe file that they are written in".into()
            }
            Self::Unreadable { .. } => "check that it is a UTF-8 text file that you may read".into(),
            Self::ExtendsCycle { .. } => "take one `extends` of these files out".into(),
            Self::ServiceCycle { .. } => "take one `after` of these services out".into(),
            Self::SetCycle { .. } => "take one `@` reference of these sets out".into(),
            Self::NotExcluded { name } => format!("take `!{name}` out, or write it as the `exclude` of the other recipe does"),
            Self::NothingToChange { key, .. } => format!("take `{key}` out, or correct the name"),
            Self::VarType { expected, .. } => format!("give {expected}"),
            Self::ReservedVar { .. } => {
                "choose another name; `${ip}`, `${hostname}`, `${mac}`, `${gateway}` are known in services and `[state]`".into()
            }
            Self::OpenReference { .. } => "close it, or write `$${` for the text itself".into(),
            Self::BadCondition { .. } => {
                "write `debug`, `!debug`, `name == value`, `name != value`, `true` or `false`".into()
            }
            Self::TooLong { .. } => "make it shorter: the kernel cuts off what is beyond its limit".into(),
            Self::BadModalias { .. } => {
                "write one modalias a line, as `bootwright-ctl hardware` prints them on a machine; `#` begins a comment"
                    .into()
            }
            Self::NotUsed { key, .. } => format!("take `{key}` out"),
            Self::CannotBe { instead, .. } => (*instead).into(),
            Self::Secret { place, .. } => format!(
                "let the node fetch it once it runs; or write `secrets = \"allowed\"` and `secrets_reason = \"...\"` in {place}"
            ),
            Self::Unfit { .. } => "see the recipe reference, docs/recipes.md".into(),
        }
    }
}

fn quoted_schemes() -> impl Iterator<Item = String> {
    RootMode::on_network().flat_map(RootMode::schemes).map(|scheme| format!("`{scheme}`"))
}

fn names(names: &[String]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

fn names_or_none(found: &[String]) -> String {
    if found.is_empty() { "none".into() } else { names(found) }
}

/// The known name that a typing error is nearest to.
pub fn nearest<'n>(name: &str, known: &'n [String]) -> Option<&'n str> {
    let near = known.iter().map(|k| (strsim::damerau_levenshtein(name, k), k));
    near.filter(|(d, k)| *d <= (k.chars().count().max(3) / 3)).min().map(|(_, k)| k.as_str())
}

fn suggest(name: &str, known: &[String], intro: &str) -> String {
    match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "there is none that could be meant".into(),
        None => format!("{intro}: {}", names(known)),
    }
}

/// Why a recipe cannot be used. Exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum RecipeErrors {
    #[error("there is no recipe `{name}`: looked for {}", looked.iter().map(|p| format!("`{}`", p.display())).collect::<Vec<_>>().join(", "))]
    NotFound { name: String, looked: Vec<PathBuf>, known: Vec<String> },
    #[error("cannot read recipe `{}`: {cause}", path.display())]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("recipe `{name}` has {}", match problems.len() { 1 => "a problem".to_string(), n => format!("{n} problems") })]
    Problems { name: String, sources: Sources, problems: Vec<FoundProblem> },
}

impl RecipeErrors {
    /// The `help:` line; problems carry their own.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NotFound { name, known, .. } => Some(suggest(name, known, "recipes found")),
            Self::Read { .. } => Some("check the path and its permissions".into()),
            Self::Problems { .. } => None,
        }
    }
}
