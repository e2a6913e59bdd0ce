//! Exit codes, and the one place where an error becomes text.

use std::fmt;

/// Process exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Other = 1,
    /// Usage or recipe.
    Usage = 2,
    /// Source or network.
    Source = 3,
    OverBudget = 4,
    SmokeFailed = 5,
}

/// An error on its way to the user: message, help, exit code.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// What and where; may be several lines (recipe problems with carets).
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}
