//! Files that somebody else may have put there: only regular ones are read. Among them the texts that people write: recipes,
//! nodes, locks, lists, patches.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Larger than any that is written by hand.
const LARGEST: u64 = 16 << 20;

/// Opens a file for reading. A fifo is not waited for, and a device without end is not read.
///
/// # Errors
/// Those of opening; [`ErrorKind::InvalidInput`] for what is no regular file.
pub fn open_regular(path: &Path) -> Result<File> {
    let file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let found = file.metadata()?;
    match found.is_file() {
        true => Ok(file),
        false if found.is_dir() => Err(unfit("it is a folder".into())),
        false => Err(unfit("it is no regular file".into())),
    }
}

/// Reads a file of any bytes.
///
/// # Errors
/// Those of [`open_regular`] and of reading.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a text.
///
/// # Errors
/// Those of [`open_regular`] and of reading; [`ErrorKind::InvalidInput`] for what is larger than 16 MiB or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    read_text_from(open_regular(path)?)
}

/// Reads a text to its end.
///
/// # Errors
/// Those of reading, and those of [`read_text`] for what is no such text.
pub fn read_text_from(reader: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    reader.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(unfit(format!("it is larger than {} MiB", LARGEST >> 20)));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
        unfit(format!("it is no UTF-8 text: byte {:#04x} in line {line}", e.as_bytes()[at]))
    })
}

fn unfit(problem: String) -> Error {
    Error::new(ErrorKind::InvalidInput, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_texts_are_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        let said = |path: &Path| read_text(path).map_err(|e| e.to_string());
        std::fs::write(&path, "a\nä").expect("writable");
        assert_eq!(said(&path), Ok("a\nä".into()));
        std::fs::write(&path, b"a\nb\xff").expect("writable");
        assert_eq!(said(&path), Err("it is no UTF-8 text: byte 0xff in line 2".into()));
        std::fs::write(&path, vec![b'#'; LARGEST as usize + 1]).expect("writable");
        assert_eq!(said(&path), Err("it is larger than 16 MiB".into()));
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        assert_eq!(said(&fifo), Err("it is no regular file".into()));
        assert_eq!(said(Path::new("/dev/zero")), Err("it is no regular file".into()));
        assert_eq!(said(dir.path()), Err("it is a folder".into()));
        assert_eq!(read_text(&dir.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
