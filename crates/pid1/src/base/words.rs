//! Arguments that must be text. What the kernel hands over may be any bytes.

use std::ffi::{OsStr, OsString};

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("argument `{}` is not UTF-8", .0.display())]
pub struct ArgumentNotText(OsString);

/// The argument as text.
pub fn word(arg: &OsStr) -> Result<&str, ArgumentNotText> {
    arg.to_str().ok_or_else(|| ArgumentNotText(arg.into()))
}

/// All arguments as text.
pub fn words(args: &[OsString]) -> Result<Vec<&str>, ArgumentNotText> {
    args.iter().map(|arg| word(arg)).collect()
}
