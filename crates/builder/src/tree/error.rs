//! What can go wrong between pools and a finished tree.

use super::TreeEntry;
use crate::entry::PathProblem;
use crate::error::{Exit, Failure};
use crate::local::LocalError;
use crate::recipe::{Component, Origin};
use crate::source::Flaw;
use std::path::PathBuf;

/// Who put an entry into the tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Owner {
    pub component: String,
    pub origin: Origin,
}

impl Owner {
    pub fn of(entry: &TreeEntry) -> Self {
        Self { component: entry.component.clone(), origin: entry.origin.clone() }
    }

    fn is_overlay(&self) -> bool {
        self.component.starts_with("overlay:")
    }

    pub fn component(component: &Component) -> Self {
        Self { component: component.name.clone(), origin: component.origin.clone() }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ({})", self.component, self.origin)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error("{origin}: `{pattern}` of component `{component}` is no glob: {cause}")]
    BadPattern { pattern: String, component: String, origin: Origin, cause: globset::Error },
    #[error("{origin}: `{pattern}` matches nothing in component `{component}`")]
    NothingMatches { pattern: String, component: String, origin: Origin },
    #[error("{origin}: `{pattern}` of `exclude` matches nothing in overlay `{overlay}`")]
    NothingToExclude { pattern: String, overlay: String, origin: Origin },
    #[error("component `{}` ({}): `{}`: {} at `{}`", component.component, component.origin, flaw.archive, flaw.problem, flaw.path)]
    Unusable { flaw: Box<Flaw>, component: Box<Owner> },
    #[error("{origin}: `{from}` of `rename` is not in component `{component}`")]
    RenameOfNothing { from: String, component: String, origin: Origin },
    #[error("`{path}` of {owner} cannot be joined with others: it is no regular file")]
    NotJoined { path: String, owner: Box<Owner> },
    #[error("`{path}` is in {first} and in {second}: {difference}")]
    Conflict { path: String, first: Box<Owner>, second: Box<Owner>, difference: &'static str },
    #[error("`{path}` of {owner} cannot be: `{parent}` of {parent_owner} is no folder")]
    NotAFolder { path: String, owner: Box<Owner>, parent: String, parent_owner: Box<Owner> },
    #[error("`{path}` of {owner}: the hard link's target `{target}` is not in the component")]
    LinkToNothing { path: String, target: String, owner: Box<Owner> },
    #[error("`{path}` of {owner} is too large: {size} bytes, an initramfs holds files of at most {limit}")]
    TooLarge { path: String, owner: Box<Owner>, size: u64, limit: u64 },
    #[error("`{}` of {owner} cannot be on a node: {what} of {bytes} bytes, Linux takes at most {limit}", shorten(path))]
    TooLong { path: String, owner: Box<Owner>, what: &'static str, bytes: usize, limit: usize },
    #[error("`{path}` of {owner} lies in a folder that the image itself uses")]
    Reserved { path: String, owner: Box<Owner> },
    #[error("{origin}: `{}` cannot be in an image: {problem}", path.display())]
    BadPath { path: PathBuf, origin: Origin, problem: PathProblem },
    #[error("{origin}: the name of `{}` is not UTF-8", path.display())]
    NotUtf8 { path: PathBuf, origin: Origin },
    #[error("{origin}: `{}` is neither a file, nor a folder, nor a symlink", path.display())]
    SpecialFile { path: PathBuf, origin: Origin },
    #[error("{origin}: cannot read `{}`: {cause}", path.display())]
    Read { path: PathBuf, origin: Origin, cause: std::io::Error },
    #[error("{origin}: `{}`: {cause}", path.display())]
    Local { path: PathBuf, origin: Origin, cause: LocalError },
    #[error("{origin}: template `{}`: {cause}", path.display())]
    Template { path: PathBuf, origin: Origin, cause: Box<dyn std::error::Error + Send + Sync> },
    #[error("component `{component}` has no files: its source was not opened")]
    NoPool { component: String },
}

/// Both ends of a path that would fill the screen.
fn shorten(path: &str) -> String {
    const SHOWN: usize = 60;
    let chars: Vec<char> = path.chars().collect();
    match chars.len() > 2 * SHOWN + 3 {
        true => chars[..SHOWN].iter().chain(['.'; 3].iter()).chain(&chars[chars.len() - SHOWN..]).collect(),
        false => path.into(),
    }
}

impl TreeError {
    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::BadPattern { .. } => "write `*` and `?` for parts of a name, `**` for folders, `[ab]` for one of several".into(),
            Self::NothingMatches { pattern, .. } => {
                format!("correct or drop `{pattern}`; paths are those in the package, without a leading `/`")
            }
            Self::NothingToExclude { .. } => "correct or drop it; paths start at the overlay's folder, templates lose their `.j2`".into(),
            Self::Unusable { flaw, .. } => format!(
                "leave it out by `exclude = [\"{}\"]`, or name what is wanted of the archive in `paths`",
                flaw.path
            ),
            Self::RenameOfNothing { .. } => "write the path as it is in the package, without a leading `/`".into(),
            Self::NotJoined { .. } => "name just regular files in `paths`, or drop `join`".into(),
            Self::Conflict { first, second, .. } if first.is_overlay() || second.is_overlay() => {
                "`exclude` it from one of them, or let the recipe file of the one that shall win extend the other's".into()
            }
            Self::Conflict { .. } => {
                "exclude it from one of them, rename it, or put the one that shall win into `segment = \"config\"`, which is laid over the root".into()
            }
            Self::NotAFolder { .. } => "exclude or rename one of the two".into(),
            Self::LinkToNothing { .. } => "exclude it, or do not exclude its target".into(),
            Self::TooLarge { .. } => "leave the file out, or let the node fetch it after the boot".into(),
            Self::TooLong { .. } => "exclude it, or give it a shorter name (`rename` of its component)".into(),
            Self::Reserved { .. } => "put it elsewhere: `/bootwright` and `/init` of the boot segment are bootwright's own".into(),
            Self::BadPath { .. } | Self::NotUtf8 { .. } | Self::SpecialFile { .. } => "rename or remove it".into(),
            Self::Read { .. } => "check the path and its permissions".into(),
            Self::Template { .. } => "correct the template; what it may use are the recipe's `[vars]`".into(),
            Self::Local { cause, .. } => cause.help(),
            Self::NoPool { component } => format!("fetch and open the source of `{component}` first"),
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Local { cause: LocalError::Io(_), .. } => Exit::Other,
            Self::Read { .. } | Self::NoPool { .. } => Exit::Other,
            Self::Unusable { .. } => Exit::Source,
            _ => Exit::Usage,
        }
    }
}

impl From<TreeError> for Failure {
    fn from(e: TreeError) -> Self {
        Self { exit: e.exit(), message: e.to_string(), help: Some(e.help()) }
    }
}
