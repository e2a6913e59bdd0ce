//! `bootwright keygen`

use crate::error::Failure;
use crate::signing;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// File for the private key; the public one is written beside it, with `.pub` behind the name
    pub file: PathBuf,
}

pub fn run(args: &KeygenArgs) -> Result<(), Failure> {
    let public = signing::generate(&args.file)?;
    super::print_out(&format!("{}\n{}\n", args.file.display(), public.display()))
}
