//! Our archives read by other people's programs, and other people's files read by us, one file a format. A missing program
//! is a failure in CI, a printed skip elsewhere.

#[allow(dead_code, reason = "it is for other suites too")]
#[path = "../support/project.rs"]
mod project;
#[path = "../support/trees.rs"]
mod trees;

mod cpio;
mod elf;
mod kmod;
mod modules;
mod packed;

use std::io::Write;
use std::process::{Command, Stdio};

/// Whether a program can be used.
pub fn have(program: &str) -> bool {
    if bootwright::pack::on_path(program).is_some() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "`{program}` is missing, and in CI nothing is skipped");
    eprintln!("skipped: `{program}` is missing");
    false
}

/// Runs a program on some bytes; it must succeed.
pub fn run(program: &str, args: &[&str], stdin: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut pipe = child.stdin.take().expect("it has a standard input");
    let bytes = stdin.to_vec();
    let feeder = std::thread::spawn(move || pipe.write_all(&bytes));
    let output = child.wait_with_output().expect("it ends");
    // A program that does not read to the end (trailing zeros) closes the pipe: its status tells.
    let _ = feeder.join().expect("the feeder does not panic");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {}: {stderr}", output.status);
    output.stdout
}
