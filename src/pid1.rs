//! PID1's binary: the one embedded when this tool was built, or another one by `--init`.

use crate::entry::Body;
use crate::error::{Exit, Failure};
use goblin::elf::{Elf, header, program_header};
use std::path::{Path, PathBuf};

static EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pid1"));

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
    !EMBEDDED.is_empty()
}

/// The binary that becomes `/init`, checked to be a static x86-64 ELF.
pub fn load_pid1(other: Option<&Path>) -> Result<Body, Pid1Error> {
    let (place, bytes) = match other {
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|cause| Pid1Error::Io { path: path.into(), cause })?;
            (path.display().to_string(), bytes)
        }
        None if !is_embedded() => return Err(Pid1Error::NotEmbedded),
        None => ("the embedded PID1".to_string(), EMBEDDED.to_vec()),
    };
    match check_static(&bytes) {
        Ok(()) => Ok(Body::from_bytes(bytes)),
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
    fn only_static_binaries_become_pid1() {
        assert!(
            load_pid1(None).is_ok(),
            "the tests are built with the musl target and the library's sources installed"
        );
        let own = std::env::current_exe().expect("a test runs from a file");
        let refused = load_pid1(Some(&own)).expect_err("a glibc test binary is dynamic");
        assert!(refused.to_string().contains("linked dynamically"), "{refused}");
        assert!(load_pid1(Some(Path::new("/etc/passwd"))).is_err());
    }
}
