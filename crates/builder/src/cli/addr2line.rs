//! `bootwright addr2line`

use super::OutArgs;
use crate::error::Failure;
use crate::pid1::lines::{self, BuildId, Frame};
use clap::Args;
use std::fmt::Write;

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Addr2lineArgs {
    /// The build, as the console shows it; its first 8 digits or more will do
    #[arg(value_name = "BUILD")]
    pub build: BuildId,
    /// Addresses, as the console shows them: 0x3f21c
    #[arg(value_name = "ADDRESS", required = true, value_parser = lines::parse_address)]
    pub addresses: Vec<u64>,
    /// Machine-readable result
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub out: OutArgs,
}

const AFTER_HELP: &str = "A console that shows `bug in PID1: SIGSEGV at 0x3f21c, build 5d0c7a19...` is asked about by\n\
`bootwright addr2line 5d0c7a19 0x3f21c`. Names and lines come from the PID1 in this binary, and from the file `init.debug` of\n\
the images in the folder of --out.";

pub fn run(args: &Addr2lineArgs) -> Result<(), Failure> {
    let debug = lines::find(&args.build, &args.out.out)?;
    let found = args.addresses.iter().map(|at| Ok((*at, debug.frames(*at)?)));
    let found: Vec<(u64, Vec<Frame>)> = found.collect::<Result<_, lines::LinesError>>()?;
    if args.json {
        let addresses: Vec<_> = found
            .iter()
            .map(|(at, frames)| serde_json::json!({ "address": format!("{at:#x}"), "frames": frames }))
            .collect();
        return super::print_json(&serde_json::json!({ "version": 1, "build": debug.build, "addresses": addresses }));
    }
    let mut text = String::new();
    for (at, frames) in &found {
        for (i, frame) in frames.iter().enumerate() {
            let start = if i == 0 { format!("{at:#x}") } else { "  inlined into".into() };
            // Writing to a string never fails.
            let _ = writeln!(text, "{start} {frame}");
        }
        if frames.is_empty() {
            let _ = writeln!(text, "{at:#x} is no code of this build");
        }
    }
    super::print_out(&text)
}
