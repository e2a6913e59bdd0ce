//! Streams a file's bytes into an archive and checks that they are the ones that the tree saw.

use super::PackError;
use crate::entry::{Body, Sha256};
use sha2::Digest;
use std::io::{Read, Write};

/// Copies exactly `body.size` bytes. Fails when the file has become shorter or other bytes are in it: a segment is kept
/// under a key made of these hashes. A failed write is reported by `write_failed`.
pub fn copy_body(
    path: &str,
    body: &Body,
    out: &mut dyn Write,
    write_failed: impl FnOnce(std::io::Error) -> PackError,
) -> Result<(), PackError> {
    let read_failed = |cause| PackError::Read { path: path.into(), place: body.place(), cause };
    let mut reader = body.open().map_err(read_failed)?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    let mut copied = 0;
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(cause) => return Err(read_failed(cause)),
        };
        hasher.update(&buffer[..n]);
        copied += n as u64;
        if let Err(cause) = out.write_all(&buffer[..n]) {
            return Err(write_failed(cause));
        }
    }
    let changed = |found| PackError::Changed { path: path.into(), place: body.place(), expected: body.size, found };
    if copied != body.size {
        return Err(changed(format!("found {copied}")));
    }
    if Sha256(hasher.finalize().into()) != body.sha256 {
        return Err(changed("of other content".into()));
    }
    Ok(())
}
