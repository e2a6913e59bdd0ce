//! Our archives read by other people's programs, and other people's files read by us, one file a format. A missing program
//! is a failure in CI, a printed skip elsewhere.

mod baked;
mod blocks;
mod corpus;
mod cpio;
mod elf;
mod kmod;
mod modules;
mod oci;
mod packed;
mod pe;
mod sbom;
mod tar;
mod verity;

use std::io::Write;
use std::process::{Command, Stdio};

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
