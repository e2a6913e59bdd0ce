//! How contents are compared with what was packed: a root image, files one by one or all together, a kernel module.

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

/// What to do about files that a lack of memory has cut short.
pub const MORE_RAM: &str = "give the machine more RAM or check the boot loader's initrd list";

/// A file is not what was packed.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error("cannot read `{path}`: {source}")]
    Read { path: String, source: io::Error },
    #[error("`{path}` is truncated: found {found} of {expected} bytes; {MORE_RAM}")]
    Size { path: String, expected: u64, found: u64 },
    #[error("`{path}` is damaged: its hash is {found}, expected {expected}; load the image again")]
    Hash { path: String, expected: String, found: String },
}

/// Whether contents are compared at all: not with `bw.verify=0`.
pub fn compares(cmdline: &Cmdline) -> bool {
    cmdline.value("bw.verify") != Some("0")
}

/// Read at once: a server is asked for several blocks of it side by side.
const CHUNK: usize = 256 << 10;
/// What O_DIRECT wants reads to be aligned to, on any disk.
const BLOCK: usize = 4096;

/// Compares files: all together by XXH64, and when that is not known or wrong each by SHA-256. Kernel modules, a third of a
/// node's bytes, of which few are used, are left to [`check_module`] by the first.
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

/// Opens the file that a line is about.
pub type Open<'a> = &'a dyn Fn(&Sum) -> Result<File, ContentError>;

/// Opens a file below an open folder, wherever that is mounted.
pub fn open_below(top: &File, sum: &Sum, flags: OFlag) -> io::Result<File> {
    Ok(openat(top, relative(&sum.path), flags | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?.into())
}

/// The error of a file that cannot be read.
pub fn not_read(path: &str) -> impl FnOnce(io::Error) -> ContentError {
    move |source| ContentError::Read { path: path.into(), source }
}

/// Compares a root image, a file or a disk of at least that size: by XXH64, or by SHA-256 where that is not given. What an
/// accident does, the first finds as well, in a tenth of the time.
pub fn check_image(mut file: &File, sum: &Sum, xxh64: Option<&str>) -> Result<(), ContentError> {
    let mut buffer = buffer();
    file.rewind().map_err(not_read(&sum.path))?;
    let Some(expected) = xxh64 else { return check_hash(file, sum, &mut buffer) };
    let mut hasher = XxHash64::with_seed(0);
    feed(file, sum, &mut buffer, &mut |bytes| hasher.write(bytes))?;
    compare(hex::encode(&hasher.finish().to_be_bytes()), expected, &sum.path)
}

/// Compares a kernel module just before it is loaded.
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

/// Room for a chunk that starts where a block does. Made once for many files: memory that is given back makes the kernel
/// interrupt all processors that run PID1.
fn buffer() -> Vec<u8> {
    vec![0; CHUNK + BLOCK]
}

/// Reads as many bytes as the file has by its sum: the file's own, or the start of a disk.
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

/// The path below the root that it is meant for.
pub fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}
