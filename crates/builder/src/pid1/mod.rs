//! PID1's binary: one of the two embedded when this tool was built, or another one by `--init`.

mod crates;
pub mod lines;

use crate::entry::Body;
use crate::error::{Exit, Failure};
use crate::recipe::CheckedRecipe;
use crate::source::PackageFacts;
use bootwright_contract::StatePlace;
use goblin::elf::{Elf, header, program_header};
use std::path::{Path, PathBuf};

/// Everything.
static WHOLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pid1"));

/// Without network roots.
static FOR_RAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pid1-ram"));

/// Names and lines of each.
static WHOLE_DEBUG: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pid1.debug"));
static FOR_RAM_DEBUG: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pid1-ram.debug"));

/// The crates of each.
static WHOLE_CRATES: &str = include_str!(concat!(env!("OUT_DIR"), "/pid1.crates"));
static FOR_RAM_CRATES: &str = include_str!(concat!(env!("OUT_DIR"), "/pid1-ram.crates"));

/// What becomes `/init`.
#[derive(Debug)]
pub struct Pid1 {
    pub body: Body,
    /// ELF file with the names and lines of `body`, and the same build id; none for a binary from elsewhere.
    pub debug: Option<&'static [u8]>,
    /// What it is compiled from; nothing is known of a binary from elsewhere.
    pub crates: Vec<PackageFacts>,
}

/// Exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum Pid1Error {
    #[error("this bootwright was built without PID1")]
    NotEmbedded,
    #[error("cannot read `{}`: {cause}", path.display())]
    Io { path: PathBuf, cause: std::io::Error },
    #[error("`{place}` cannot be PID1: {problem}")]
    NotStatic { place: String, problem: String },
}

impl From<Pid1Error> for Failure {
    fn from(e: Pid1Error) -> Self {
        let help = match &e {
            Pid1Error::NotEmbedded => {
                "run `rustup target add x86_64-unknown-linux-musl` and `rustup component add rust-src`, \
                 and build bootwright again"
            }
            Pid1Error::Io { .. } => "check the path given to --init",
            Pid1Error::NotStatic { .. } => {
                "PID1 runs before there is any library: build it for x86_64-unknown-linux-musl"
            }
        };
        Failure { exit: Exit::Other, message: e.to_string(), help: Some(help.into()) }
    }
}

/// Is PID1 part of this binary?
pub fn is_embedded() -> bool {
    !WHOLE.is_empty() && !FOR_RAM.is_empty()
}

/// Whether anything of the image is on a server. What `[root] choices` says is for initrds of network roots alone.
pub fn wants_network_roots(recipe: &CheckedRecipe) -> bool {
    recipe.root.mode.is_network() || recipe.state.iter().any(|s| matches!(s.place, StatePlace::Volume { .. }))
}

/// The binary that becomes `/init`, checked to be a static x86-64 ELF. `network_roots`: it can have roots and volumes on
/// servers.
pub fn load_pid1(other: Option<&Path>, network_roots: bool) -> Result<Pid1, Pid1Error> {
    let (place, bytes, debug, crates) = match other {
        Some(path) => {
            let bytes =
                crate::input_file::read_bytes(path).map_err(|cause| Pid1Error::Io { path: path.into(), cause })?;
            (path.display().to_string(), bytes, None, "")
        }
        None if !is_embedded() => return Err(Pid1Error::NotEmbedded),
        None => {
            let (bytes, debug, crates) = match network_roots {
                true => (WHOLE, WHOLE_DEBUG, WHOLE_CRATES),
                false => (FOR_RAM, FOR_RAM_DEBUG, FOR_RAM_CRATES),
            };
            ("the embedded PID1".to_string(), bytes.to_vec(), Some(debug), crates)
        }
    };
    match check_static(&bytes) {
        Ok(()) => Ok(Pid1 { body: Body::from_bytes(bytes), debug, crates: crates::parse(crates) }),
        Err(problem) => Err(Pid1Error::NotStatic { place, problem }),
    }
}

fn check_static(bytes: &[u8]) -> Result<(), String> {
    let elf = Elf::parse(bytes).map_err(|e| format!("not an ELF file: {e}"))?;
    if elf.header.e_machine != header::EM_X86_64 {
        return Err(format!("it is for machine {}, not x86-64", elf.header.e_machine));
    }
    if elf.program_headers.iter().any(|h| h.p_type == program_header::PT_INTERP) || !elf.libraries.is_empty() {
        return Err("it is linked dynamically".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_small() {
        let sizes = [WHOLE, FOR_RAM].map(<[u8]>::len);
        assert!(sizes[0] <= 800_000 && sizes[1] <= 600_000, "{sizes:?}");
        assert!(sizes[1] > 0);
    }

    #[test]
    fn only_static_binaries_become_pid1() {
        let embedded = [true, false].map(|network_roots| load_pid1(None, network_roots));
        assert!(
            embedded.iter().all(Result::is_ok),
            "the tests are built with the musl target and the library's sources installed"
        );
        let own = std::env::current_exe().expect("a test runs from a file");
        let refused = load_pid1(Some(&own), true).expect_err("a glibc test binary is dynamic");
        assert!(refused.to_string().contains("linked dynamically"), "{refused}");
        assert!(load_pid1(Some(Path::new("/etc/passwd")), true).is_err());
    }
}
