//! Brings bytes into the new folder: synced, with fixed permissions, checked against the hashes that are known.

use super::EmitError;
use crate::entry::{Body, Sha256};
use crate::measure::MeasuredProgram;
use crate::segment::PackedSegment;
use sha2::{Digest, Sha256 as Hasher};
use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Writes one document.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), EmitError> {
    let mut file = create(path)?;
    file.write_all(bytes).map_err(EmitError::io("write", path))?;
    finish(&file, path)
}

/// Copies the kernel and checks its hash. Gives what firmware measures of it.
pub fn copy_kernel(kernel: &Body, to: &Path) -> Result<Option<MeasuredProgram>, EmitError> {
    let place = kernel.place();
    let bytes = kernel.read_start(kernel.size).map_err(EmitError::io("read", &place))?;
    check(&place, kernel.sha256, Sha256::of(&bytes))?;
    write_file(to, &bytes)?;
    MeasuredProgram::of(super::KERNEL, &bytes).map_err(|problem| EmitError::Kernel { path: place, problem })
}

/// Writes the segments one after another; returns the hash of the whole. One thread copies inside the kernel
/// (copy_file_range(2), which shares blocks where the file system can), another one reads and hashes.
pub fn write_initrd(segments: &[PackedSegment], to: &Path) -> Result<Sha256, EmitError> {
    std::thread::scope(|scope| {
        let hashing = scope.spawn(|| hash_segments(segments));
        let mut out = create(to)?;
        for segment in segments {
            let mut from = File::open(&segment.path).map_err(EmitError::io("open", &segment.path))?;
            std::io::copy(&mut from, &mut out).map_err(EmitError::io("write", to))?;
        }
        finish(&out, to)?;
        hashing.join().expect("hashing does not panic")
    })
}

fn hash_segments(segments: &[PackedSegment]) -> Result<Sha256, EmitError> {
    let (mut whole, mut buffer) = (Hasher::new(), vec![0; 1 << 18]);
    for segment in segments {
        let mut one = Hasher::new();
        let mut file = File::open(&segment.path).map_err(EmitError::io("open", &segment.path))?;
        loop {
            match file.read(&mut buffer).map_err(EmitError::io("read", &segment.path))? {
                0 => break,
                n => {
                    one.update(&buffer[..n]);
                    whole.update(&buffer[..n]);
                }
            }
        }
        check(&segment.path, segment.sha256, Sha256(one.finalize().into()))?;
    }
    Ok(Sha256(whole.finalize().into()))
}

/// Puts each segment into `segments/`, as a further name of the cache's read-only file where that is possible. Returns
/// their paths below `dir`.
pub fn place_segments(segments: &[PackedSegment], dir: &Path) -> Result<Vec<PathBuf>, EmitError> {
    let mut paths = Vec::new();
    for segment in segments {
        let suffix = suffix(&segment.path)?;
        let path = Path::new("segments").join(format!("{}.cpio{suffix}", segment.name.as_str()));
        let to = dir.join(&path);
        if std::fs::hard_link(&segment.path, &to).is_err() {
            let mut from = File::open(&segment.path).map_err(EmitError::io("open", &segment.path))?;
            let mut out = create(&to)?;
            std::io::copy(&mut from, &mut out).map_err(EmitError::io("write", &to))?;
            finish(&out, &to)?;
        }
        paths.push(path);
    }
    Ok(paths)
}

/// What the file is compressed with, by its magic.
fn suffix(path: &Path) -> Result<&'static str, EmitError> {
    let mut magic = Vec::new();
    let file = File::open(path).map_err(EmitError::io("open", path))?;
    file.take(4).read_to_end(&mut magic).map_err(EmitError::io("read", path))?;
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => ".gz",
        [0xfd, b'7', b'z', b'X'] => ".xz",
        [0x28, 0xb5, 0x2f, 0xfd] => ".zst",
        _ => "",
    })
}

fn check(path: &Path, expected: Sha256, found: Sha256) -> Result<(), EmitError> {
    if expected == found { Ok(()) } else { Err(EmitError::Damaged { path: path.into(), expected, found }) }
}

/// A new file, which must not be there yet.
pub fn create(path: &Path) -> Result<File, EmitError> {
    File::options().write(true).create_new(true).open(path).map_err(EmitError::io("make", path))
}

/// Brings a file to the disk, readable for all whatever the umask.
pub fn finish(file: &File, path: &Path) -> Result<(), EmitError> {
    file.set_permissions(Permissions::from_mode(0o644)).map_err(EmitError::io("write", path))?;
    file.sync_all().map_err(EmitError::io("write", path))
}
