//! Makes a file system on an empty volume, by mke2fs of the image. A volume with any content is never changed.

use crate::base::timeline::Timeline;
use bootwright_base::children::End;
use bootwright_base::spawn::{Program, spawn};
use bootwright_base::sys::Sys;
use bootwright_contract::paths::MKE2FS;
use bootwright_roots::content::{Content, read_content};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// A large volume on a slow server takes minutes, although most tables are written later.
const LIMIT: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("cannot read the volume: {0}")]
    Read(#[source] io::Error),
    #[error("the volume has {0}, no file system; it is left as it is")]
    Occupied(&'static str),
    #[error("the volume is empty; `format = \"ext4\"` in the recipe makes a file system on it")]
    Empty,
    #[error("cannot run `{MKE2FS}`: {0}")]
    Run(Errno),
    #[error("`{MKE2FS}` failed with status {status}: {said}")]
    Failed { status: i32, said: String },
    #[error("`{MKE2FS}` was not done after {limit_s} s")]
    Slow { limit_s: u64 },
    #[error("`{MKE2FS}` has made no file system that is known")]
    Unknown,
}

/// The type of the file system on the device. If the device is empty and `format` is given, makes one first, unless
/// `sys` allows no changes any more.
///
/// # Errors
/// [`FormatError`]
pub fn ensure(
    sys: &dyn Sys,
    timeline: &Timeline,
    device: &Path,
    format: Option<&str>,
) -> Result<&'static str, FormatError> {
    match look(device)? {
        Content::FileSystem(name) => Ok(name),
        Content::Other(what) => Err(FormatError::Occupied(what)),
        Content::Nothing => {
            let Some(format) = format else { return Err(FormatError::Empty) };
            timeline.note(&["makes ", format, " on the empty volume ", &device.to_string_lossy()].concat());
            sys.may_change().map_err(FormatError::Run)?;
            run(&command(format, device))?;
            match look(device)? {
                Content::FileSystem(name) => Ok(name),
                _ => Err(FormatError::Unknown),
            }
        }
    }
}

fn look(device: &Path) -> Result<Content, FormatError> {
    let mut file = File::open(device).map_err(FormatError::Read)?;
    let size = file.seek(SeekFrom::End(0)).map_err(FormatError::Read)?;
    read_content(&file, size).map_err(FormatError::Read)
}

/// The kernel writes the tables later. Nothing is discarded, because the volume is empty.
fn command(format: &str, device: &Path) -> Vec<String> {
    let options = "nodiscard,lazy_itable_init=1,lazy_journal_init=1";
    [MKE2FS, "-q", "-t", format, "-E", options, &device.to_string_lossy()].map(String::from).into()
}

/// Runs a program to its end.
fn run(argv: &[String]) -> Result<(), FormatError> {
    let (mut output, input) = io::pipe().map_err(FormatError::Read)?;
    let program = Program { argv, output: Some(input.as_fd()), ..Program::default() };
    let child = spawn(&program).map_err(FormatError::Run)?;
    drop(input);
    let status = match child.wait(Some(Instant::now() + LIMIT)) {
        Some(End::Exited(status) | End::Killed(status)) => status,
        None => {
            // While the program waits for the device, the signal takes effect only when the device answers.
            child.signal(Signal::SIGKILL);
            return Err(FormatError::Slow { limit_s: LIMIT.as_secs() });
        }
    };
    if status == 0 {
        return Ok(());
    }
    let mut said = String::new();
    // All writers have ended, so this does not wait.
    let _ = output.read_to_string(&mut said);
    Err(FormatError::Failed { status, said: said.trim().replace('\n', "; ") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::sys::{Fence, Fenced, RealSys};

    #[test]
    fn a_program_that_fails_says_why() {
        let argv = |script: &str| ["/bin/sh", "-c", script].map(String::from);
        run(&argv("echo fine")).unwrap();
        let error = run(&argv("echo 'no such'; echo device >&2; exit 3")).unwrap_err().to_string();
        assert_eq!(error, "`/usr/sbin/mke2fs` failed with status 3: no such; device");
        assert!(matches!(run(&["/nowhere/mke2fs".into()]), Err(FormatError::Run(Errno::ENOENT))));
    }

    #[test]
    fn an_attempt_that_was_given_up_makes_no_file_system() {
        let device = std::env::temp_dir().join(format!("bootwright-format-{}", std::process::id()));
        std::fs::write(&device, vec![0; 1 << 20]).unwrap();
        let timeline = Timeline::new(&[], Box::new(io::sink()));
        let fence = Fence::default();
        let sys = Fenced { sys: &RealSys, fence: fence.clone() };
        fence.close();
        let refused = ensure(&sys, &timeline, &device, Some("ext4"));
        assert!(matches!(refused, Err(FormatError::Run(Errno::ECANCELED))), "{refused:?}");
        assert!(std::fs::read(&device).unwrap().iter().all(|byte| *byte == 0));
        std::fs::remove_file(device).unwrap();
    }

    #[test]
    fn the_command_leaves_work_for_later() {
        let argv = command("ext4", Path::new("/dev/nbd0"));
        assert_eq!(argv[..4], ["/usr/sbin/mke2fs", "-q", "-t", "ext4"]);
        assert_eq!(argv.last().map(String::as_str), Some("/dev/nbd0"));
    }
}
