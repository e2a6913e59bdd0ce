//! `bootwright-ctl ssh-host-key FILE`: makes sshd's host key if there is none, and leaves its fingerprint as the note
//! of the service `ssh-host-key`. PID1 shows the note on the console and in reports, so that people can compare it.

use bootwright_base::children::End;
use bootwright_base::spawn::{Program, spawn};
use bootwright_contract::paths;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;

/// From Debian's package `dropbear-bin`.
const DROPBEARKEY: &str = "/usr/bin/dropbearkey";
const SERVICE: &str = "ssh-host-key";
/// The word before the fingerprint in its output (`printpubkey` of dropbearkey.c).
const MARK: &str = "Fingerprint: ";

/// Runs the command.
///
/// # Errors
/// The problem in words.
pub fn run(file: &str) -> Result<(), String> {
    if !Path::new(file).exists() {
        dropbearkey(&["-t", "ed25519", "-f", file])?;
    }
    let said = dropbearkey(&["-y", "-f", file])?;
    let Some(fingerprint) = said.lines().find_map(|line| line.strip_prefix(MARK)) else {
        return Err([DROPBEARKEY, " names no fingerprint of `", file, "`"].concat());
    };
    let note = Path::new(paths::NOTES).join(SERVICE);
    leave(&note, fingerprint).map_err(|e| ["cannot write `", &note.to_string_lossy(), "`: ", &e.to_string()].concat())
}

fn leave(note: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(paths::NOTES)?;
    fs::write(note, ["host key ", text, "\n"].concat())
}

/// Runs dropbearkey to its end; returns its output.
fn dropbearkey(args: &[&str]) -> Result<String, String> {
    let failed = |cause: String| ["`", DROPBEARKEY, " ", &args.join(" "), "` failed: ", &cause].concat();
    let io_failed = |e: io::Error| failed(e.to_string());
    fs::create_dir_all(paths::NOTES).map_err(io_failed)?;
    let path = Path::new(paths::NOTES).join(".dropbearkey");
    let mut output =
        File::options().read(true).write(true).create(true).truncate(true).open(&path).map_err(io_failed)?;
    let argv: Vec<String> = [DROPBEARKEY].iter().chain(args).map(|word| (*word).to_string()).collect();
    let program = Program { argv: &argv, output: Some(output.as_fd()), ..Program::default() };
    let end = spawn(&program).map_err(|errno| failed(errno.desc().into()))?.wait(None);
    let mut said = String::new();
    output.rewind().and_then(|()| output.read_to_string(&mut said)).map_err(io_failed)?;
    let _ = fs::remove_file(&path);
    match end {
        Some(End::Exited(0)) => Ok(said),
        _ => Err(failed(said.trim().replace('\n', "; "))),
    }
}
