//! Program arguments as text. The kernel passes on any bytes.

use std::ffi::{OsStr, OsString};

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("argument `{}` is not UTF-8", .0.display())]
pub struct ArgumentNotText(OsString);

/// The argument as text.
///
/// # Errors
/// [`ArgumentNotText`]
pub fn word(arg: &OsStr) -> Result<&str, ArgumentNotText> {
    arg.to_str().ok_or_else(|| ArgumentNotText(arg.into()))
}

/// All arguments as text.
///
/// # Errors
/// [`ArgumentNotText`] for the first that is none.
pub fn words(args: &[OsString]) -> Result<Vec<&str>, ArgumentNotText> {
    args.iter().map(|arg| word(arg)).collect()
}
