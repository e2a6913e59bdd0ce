//! Compares contents with what was packed: root images, files, kernel modules.

use bootwright_base::cmdline::Cmdline;
use bootwright_contract::hex;
use bootwright_contract::sums::{Sum, is_module};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::hash::Hasher;
use std::io::{self, Read, Seek};
use std::path::Path;
use twox_hash::XxHash64;

/// Advice for files that were cut short for lack of memory.
pub const MORE_RAM: &str = "give the machine more RAM or check the boot loader's initrd list";

/// Content that differs from what was packed.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error("cannot read `{path}`: {source}")]
    Read { path: String, source: io::Error },
    #[error("`{path}` is truncated: found {found} of {expected} bytes; {MORE_RAM}")]
    Size { path: String, expected: u64, found: u64 },
    #[error("`{path}` is damaged: its hash is {found}, expected {expected}; load the image again")]
    Hash { path: String, expected: String, found: String },
}

/// Whether hashes are compared: not with `bw.verify=0`.
pub fn compares(cmdline: &Cmdline) -> bool {
    cmdline.value("bw.verify") != Some("0")
}

/// Bytes of one read. Large, so that a server gets requests for several blocks at the same time.
const CHUNK: usize = 256 << 10;
/// Alignment that O_DIRECT demands of reads, for any disk.
const BLOCK: usize = 4096;

/// Compares files: all of them by one XXH64, and if that is not given or differs, each by its SHA-256. The XXH64 leaves
/// out kernel modules, which are a third of a node's bytes and mostly unused: [`check_module`] compares each before it
/// is loaded.
pub fn check_files(sums: &[Sum], xxh64: Option<&str>, open: Open) -> Result<(), ContentError> {
    let mut buffer = buffer();
    if let Some(expected) = xxh64 {
        let mut hasher = XxHash64::with_seed(0);
        for sum in sums.iter().filter(|sum| !is_module(&sum.path)) {
            feed(&open(sum)?, sum, &mut buffer, &mut |bytes| hasher.write(bytes))?;
        }
        if hex::encode(&hasher.finish().to_be_bytes()) == expected {
            return Ok(());
        }
    }
    sums.iter().try_for_each(|sum| check_hash(&open(sum)?, sum, &mut buffer))
}

/// Opens the file of an entry.
pub type Open<'a> = &'a dyn Fn(&Sum) -> Result<File, ContentError>;

/// Opens a file below an open folder, wherever the folder is mounted now.
pub fn open_below(top: &File, sum: &Sum, flags: OFlag) -> io::Result<File> {
    Ok(openat(top, relative(&sum.path), flags | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?.into())
}

/// Makes the error for a file that cannot be read.
pub fn not_read(path: &str) -> impl FnOnce(io::Error) -> ContentError {
    move |source| ContentError::Read { path: path.into(), source }
}

/// Compares a root image in a file or on a disk of at least its size: by XXH64, or without one by SHA-256. XXH64 finds
/// accidental damage as well, in a tenth of the time.
pub fn check_image(mut file: &File, sum: &Sum, xxh64: Option<&str>) -> Result<(), ContentError> {
    let mut buffer = buffer();
    file.rewind().map_err(not_read(&sum.path))?;
    let Some(expected) = xxh64 else { return check_hash(file, sum, &mut buffer) };
    let mut hasher = XxHash64::with_seed(0);
    feed(file, sum, &mut buffer, &mut |bytes| hasher.write(bytes))?;
    compare(hex::encode(&hasher.finish().to_be_bytes()), expected, &sum.path)
}

/// Compares a kernel module. Called just before the module is loaded.
pub fn check_module(file: &Path, xxh64: &str) -> Result<(), ContentError> {
    let path = file.to_string_lossy();
    let bytes = fs::read(file).map_err(not_read(&path))?;
    compare(hex::encode(&XxHash64::oneshot(0, &bytes).to_be_bytes()), xxh64, &path)
}

fn check_hash(file: &File, sum: &Sum, buffer: &mut [u8]) -> Result<(), ContentError> {
    let mut hasher = Sha256::new();
    feed(file, sum, buffer, &mut |bytes| hasher.update(bytes))?;
    compare(hex::encode(&hasher.finalize()), &sum.sha256, &sum.path)
}

/// A buffer with room for an aligned chunk. It is reused for many files, because freeing memory makes the kernel
/// interrupt all processors that run PID1.
fn buffer() -> Vec<u8> {
    vec![0; CHUNK + BLOCK]
}

/// Reads as many bytes as `sum` says: a whole file, or the start of a disk.
fn feed(mut file: &File, sum: &Sum, buffer: &mut [u8], hash: &mut dyn FnMut(&[u8])) -> Result<(), ContentError> {
    let start = buffer.as_ptr().align_offset(BLOCK);
    let mut left = sum.size;
    while left > 0 {
        let chunk = &mut buffer[start..start + CHUNK];
        let read = file.read(chunk).map_err(not_read(&sum.path))?;
        if read == 0 {
            return Err(ContentError::Size { path: sum.path.clone(), expected: sum.size, found: sum.size - left });
        }
        let ours = read.min(usize::try_from(left).unwrap_or(usize::MAX));
        hash(&chunk[..ours]);
        left -= ours as u64;
    }
    Ok(())
}

fn compare(found: String, expected: &str, path: &str) -> Result<(), ContentError> {
    match found == expected {
        true => Ok(()),
        false => Err(ContentError::Hash { path: path.into(), expected: expected.into(), found }),
    }
}

/// The path relative to the root.
pub fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}
