//! Why `nodes.toml` cannot be used.

use crate::error::{Exit, Failure};
use crate::recipe::problem::FoundProblem;
use crate::recipe::render::render_found;
use crate::recipe::sources::Sources;
use std::path::PathBuf;

/// Exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    #[error("cannot read `{}`: {cause}", path.display())]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("`{}` has {}", path.display(), match problems.len() { 1 => "a problem".to_string(), n => format!("{n} problems") })]
    Problems { path: PathBuf, sources: Sources, problems: Vec<FoundProblem> },
}

impl From<NodesError> for Failure {
    fn from(e: NodesError) -> Self {
        let (mut message, mut help) = (e.to_string(), None);
        match &e {
            NodesError::Read { .. } => {
                help = Some("name another file with --nodes, or leave it out: images alone make a menu".into())
            }
            NodesError::Problems { sources, problems, .. } => {
                message.push('\n');
                message.push_str(&render_found(sources, problems));
            }
        }
        Failure { exit: Exit::Usage, message, help }
    }
}
