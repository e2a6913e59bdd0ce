//! Phase `verify`: is all there that was packed, byte for byte?
//!
//! A failed unpack does not stop the kernel: it logs a line, leaves truncated files and runs an earlier `/init`.
//! So sizes are checked first, of all segments: that takes no time and finds what a lack of RAM does. Then contents;
//! the root image, by far the largest file, comes last, just before the services start (phase `image`): bulk reads in the
//! midst of the other phases would hold up their small ones.

use crate::boot::{Boot, Machine};
use crate::cmdline::Cmdline;
use crate::memory;
use crate::netroot::trust::{self, ImageFacts};
use crate::phases::PhaseError;
use bootwright_contract::sums::{Sum, is_module, parse_sums};
use bootwright_contract::{RootImage, SegmentSums, paths};
use nix::fcntl::{OFlag, openat};
use nix::libc;
use nix::sys::stat::{Mode, major, minor};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use twox_hash::XxHash64;

/// Read at once: a server is asked for several blocks of it side by side.
const CHUNK: usize = 256 << 10;
/// So many times what is hashed must be available where that is to stay in the page cache.
const SPARE: u64 = 3;
/// While an exported tree is read through.
const READ_AHEAD_KIB: &str = "1024";
/// There when the module `loop` is.
const LOOPS: &str = "/dev/loop-control";
/// What O_DIRECT wants reads to be aligned to, on any disk.
const BLOCK: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("segment `{segment}` is missing or truncated: cannot read `{path}`: {source}; {MORE_RAM}")]
    NoSums { segment: String, path: String, source: io::Error },
    #[error(
        "segment `{segment}` does not belong to this image: the hash of `{path}` is {found}, expected {expected}; load all segments from one build"
    )]
    ForeignSums { segment: String, path: String, expected: String, found: String },
    #[error("line {line} of `{path}` cannot be read")]
    BadSums { path: String, line: usize },
    #[error("`{path}` is missing from segment `{segment}`: {source}; {MORE_RAM}")]
    Missing { segment: String, path: String, source: io::Error },
    #[error("cannot read `{path}`: {source}")]
    Read { path: String, source: io::Error },
    #[error("`{path}` is truncated: found {found} of {expected} bytes; {MORE_RAM}")]
    Size { path: String, expected: u64, found: u64 },
    #[error("`{path}` is truncated: it has {found} bytes, the root image {expected}; export the image of this build")]
    Device { path: String, expected: u64, found: u64 },
    #[error(
        "`{path}` is not in the export `{export}`, or cannot be read: {source}; export the root of this build, without root_squash"
    )]
    NotExported { path: String, export: String, source: io::Error },
    #[error("the export `{export}` is of another build: the hash of `{path}` is {found}, expected {expected}")]
    ForeignTree { path: String, export: String, expected: String, found: String },
    #[error(
        "`{path}` in the export `{export}` is truncated: found {found} of {expected} bytes; export the root of this build"
    )]
    TreeSize { path: String, export: String, expected: u64, found: u64 },
    #[error("`{path}` is damaged: its hash is {found}, expected {expected}; load the image again")]
    Hash { path: String, expected: String, found: String },
}

const MORE_RAM: &str = "give the machine more RAM or check the boot loader's initrd list";

/// On the kernel command line: the SHA-256 of the sums of the node's own segment, which is then laid over the root.
pub const NODE_KEY: &str = "bw.node";

/// The segment that the boot loader adds to the image's own. The image cannot vouch for it: whoever names the initrds names
/// its hash too. So a node whose segment was lost, cut short or taken from another node does not come up half configured.
fn node_segment(sums_sha256: Option<&str>) -> Option<SegmentSums> {
    Some(SegmentSums { name: paths::NODE_SUMS.into(), sums_sha256: sums_sha256?.into(), xxh64: None })
}

/// Phase `verify`; `bw.verify=0` leaves the hashes out, not the sizes. What came with the initramfs is compared by XXH64,
/// with `bw.verify=sha256` by SHA-256.
pub fn check_segments(machine: &Machine) -> Result<(), PhaseError> {
    let boot = machine.boot()?;
    let root = Path::new("/");
    let mut segments = boot.config.segments.clone();
    segments.extend(node_segment(boot.cmdline.value(NODE_KEY)));
    if boot.cmdline.value(NODE_KEY).is_none() && root.join(&paths::NODE_TREE[1..]).exists() {
        machine.timeline.note("the node's own segment is not used: no bw.node on the kernel command line");
    }
    let mut listed = Vec::new();
    for segment in segments {
        listed.push((load_sums(root, &segment)?, segment));
    }
    for (sums, segment) in &listed {
        sums.iter().try_for_each(|sum| check_size(root, &segment.name, sum))?;
    }
    if !compares(&boot.cmdline) {
        return Ok(());
    }
    let xxh64 = |segment: &SegmentSums| segment.xxh64.clone().filter(|_| !wants_sha256(boot));
    let (images, others): (Vec<_>, Vec<_>) = listed.into_iter().partition(|(sums, _)| is_image(sums));
    for (sums, segment) in images {
        for sum in sums {
            // Opened now: the name is gone after the switch.
            let file = File::open(&sum.path).map_err(not_read(&sum.path))?;
            let expected = xxh64(&segment);
            machine.check.keep(Box::new(move || check_image(file, &sum, expected.as_deref())));
        }
    }
    let top = File::open(root)?;
    let open = |sum: &Sum| open_below(&top, sum, OFlag::empty()).map_err(not_read(&sum.path));
    for (sums, segment) in others {
        check_files(&sums, xxh64(&segment).as_deref(), &open)?;
    }
    Ok(())
}

/// Whether these are the sums of a root image, which is alone in its segment.
fn is_image(sums: &[Sum]) -> bool {
    matches!(sums, [sum] if sum.path == paths::ROOT_IMAGE)
}

/// Whether contents are compared at all.
pub fn compares(cmdline: &Cmdline) -> bool {
    cmdline.value("bw.verify") != Some("0")
}

fn wants_sha256(boot: &Boot) -> bool {
    boot.cmdline.value("bw.verify") == Some("sha256")
}

/// Of a root on a server: with a key, malice counts too, and another root than that of the build may be the right one.
fn wants_proof(boot: &Boot) -> bool {
    wants_sha256(boot) || boot.config.root.trust.is_some()
}

/// Phase `image`: the root image is what was built.
pub fn check_root(machine: &Machine) -> Result<(), PhaseError> {
    machine.check.take().map_or(Ok(()), |check| Ok(check()?))
}

/// Compares the root image, or the files of the root, with what was built.
pub type Check = Box<dyn FnOnce() -> Result<(), VerifyError> + Send>;

/// A root image on a block device.
pub struct Disk {
    pub image: RootImage,
    /// It is read through the page cache, where what is hashed stays for those who mount it by a loop device.
    pub cached: bool,
}

/// Checks the size of a root image on a block device; its content is left to [`check_root`]. The device may be larger than
/// the image: disks come in whole sectors, or more.
pub fn check_device(machine: &Machine, device: &Path) -> Result<Disk, PhaseError> {
    let boot = machine.boot()?;
    let path = device.to_string_lossy().into_owned();
    let ImageFacts { size, sha256, image, .. } = trust::facts_elsewhere(machine)?;
    let read = |source| VerifyError::Read { path: path.clone(), source };
    let hashes = compares(&boot.cmdline);
    // What is hashed has come from the server: with memory to spare it need not come again.
    let cached = hashes && fits(size) && Path::new(LOOPS).exists();
    let flags = if cached { 0 } else { libc::O_DIRECT };
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(device).map_err(read)?;
    let found = file.seek(SeekFrom::End(0)).map_err(read)?;
    file.rewind().map_err(read)?;
    if found < size {
        return Err(VerifyError::Device { path, expected: size, found }.into());
    }
    if hashes {
        let (sum, xxh64) = (Sum { path, size, sha256 }, boot.config.root.xxh64.clone().filter(|_| !wants_proof(boot)));
        machine.check.keep(Box::new(move || check_image(file, &sum, xxh64.as_deref())));
    }
    Ok(Disk { image, cached })
}

/// Whether so many bytes may stay in the page cache without taking the place of what the node reads.
fn fits(bytes: u64) -> bool {
    bytes.saturating_mul(SPARE) / 1024 <= memory::available_kib()
}

/// Checks that an exported tree mounted on `top` is the right one and that all its files have their sizes; their contents
/// are left to [`check_root`]. One that is `written` to changes: there the sums file alone says what it is.
pub fn check_tree(machine: &Machine, top: &Path, export: &str, written: bool) -> Result<(), PhaseError> {
    let boot = machine.boot()?;
    let expected = trust::facts_elsewhere(machine)?.tree_sums_sha256;
    let sums = load_export(top, export, &expected)?;
    if written {
        return Ok(());
    }
    check_export_sizes(top, export, &sums)?;
    if compares(&boot.cmdline) {
        let xxh64 = boot.config.root.tree_xxh64.clone().filter(|_| !wants_proof(boot));
        // Opened now: its place changes with the switch.
        let top = File::open(top)?;
        machine.check.keep(Box::new(move || check_contents(&top, &sums, xxh64.as_deref())));
    }
    Ok(())
}

fn check_contents(top: &File, sums: &[Sum], xxh64: Option<&str>) -> Result<(), VerifyError> {
    let cached = fits(sums.iter().map(|sum| sum.size).sum());
    let flags = if cached { OFlag::empty() } else { OFlag::O_DIRECT };
    let open = |sum: &Sum| open_below(top, sum, flags).map_err(not_read(&sum.path));
    with_read_ahead(top, cached, || check_files(sums, xxh64, &open))
}

/// Lets the kernel ask the server for more at once while whole files are read, if they stay in the page cache: fewer
/// questions take half as long.
fn with_read_ahead<T>(top: &File, cached: bool, read: impl FnOnce() -> T) -> T {
    let device = top.metadata().map(|meta| meta.dev()).unwrap_or_default();
    let numbers = [&major(device).to_string(), ":", &minor(device).to_string()].concat();
    let knob = ["/sys/class/bdi/", &numbers, "/read_ahead_kb"].concat();
    let before = fs::read_to_string(&knob).unwrap_or_default();
    // Only speed depends on it.
    let _ = cached.then(|| fs::write(&knob, READ_AHEAD_KIB));
    let outcome = read();
    let _ = cached.then(|| fs::write(&knob, before));
    outcome
}

fn load_export(top: &Path, export: &str, expected: &str) -> Result<Vec<Sum>, VerifyError> {
    let path = [paths::SUMS, "/root"].concat();
    let text = fs::read(below(top, &path)).map_err(not_exported(&path, export))?;
    let found = hex(&Sha256::digest(&text));
    if found != expected {
        let (export, expected) = (export.into(), expected.into());
        return Err(VerifyError::ForeignTree { path, export, expected, found });
    }
    parse_sums(&String::from_utf8_lossy(&text)).map_err(|line| VerifyError::BadSums { path, line })
}

fn check_export_sizes(top: &Path, export: &str, sums: &[Sum]) -> Result<(), VerifyError> {
    let mut listed = HashSet::new();
    for sum in sums {
        let path = below(top, &sum.path);
        // The list of a folder brings the sizes along (READDIRPLUS): one question in place of one for each file. Without it
        // they are asked for.
        if let Some(folder) = path.parent().filter(|folder| listed.insert(folder.to_path_buf())) {
            let _ = fs::read_dir(folder).map(Iterator::count);
        }
        let found = fs::symlink_metadata(&path).map_err(not_exported(&sum.path, export))?.len();
        if found != sum.size {
            let (path, export) = (sum.path.clone(), export.into());
            return Err(VerifyError::TreeSize { path, export, expected: sum.size, found });
        }
    }
    Ok(())
}

fn not_exported(path: &str, export: &str) -> impl FnOnce(io::Error) -> VerifyError {
    let (path, export) = (path.to_string(), export.to_string());
    move |source| VerifyError::NotExported { path, export, source }
}

/// Compares files: all together by XXH64, and when that is not known or wrong each by SHA-256. Kernel modules, a third of a
/// node's bytes, of which few are used, are left to [`check_module`] by the first.
fn check_files(sums: &[Sum], xxh64: Option<&str>, open: Open) -> Result<(), VerifyError> {
    let mut buffer = buffer();
    if let Some(expected) = xxh64 {
        let mut hasher = XxHash64::with_seed(0);
        for sum in sums.iter().filter(|sum| !is_module(&sum.path)) {
            feed(open(sum)?, sum, &mut buffer, &mut |bytes| hasher.write(bytes))?;
        }
        if hex(&hasher.finish().to_be_bytes()) == expected {
            return Ok(());
        }
    }
    sums.iter().try_for_each(|sum| check_hash(open(sum)?, sum, &mut buffer))
}

/// Opens the file that a line is about.
type Open<'a> = &'a dyn Fn(&Sum) -> Result<File, VerifyError>;

/// Opens a file below an open folder, wherever that is mounted.
fn open_below(top: &File, sum: &Sum, flags: OFlag) -> io::Result<File> {
    Ok(openat(top, relative(&sum.path), flags | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?.into())
}

fn not_read(path: &str) -> impl FnOnce(io::Error) -> VerifyError {
    move |source| VerifyError::Read { path: path.into(), source }
}

fn load_sums(root: &Path, segment: &SegmentSums) -> Result<Vec<Sum>, VerifyError> {
    let path = format!("{}/{}", paths::SUMS, segment.name);
    let text = fs::read(below(root, &path)).map_err(|source| VerifyError::NoSums {
        segment: segment.name.clone(),
        path: path.clone(),
        source,
    })?;
    let found = hex(&Sha256::digest(&text));
    if found != segment.sums_sha256 {
        let (segment, expected) = (segment.name.clone(), segment.sums_sha256.clone());
        return Err(VerifyError::ForeignSums { segment, path, expected, found });
    }
    parse_sums(&String::from_utf8_lossy(&text)).map_err(|line| VerifyError::BadSums { path, line })
}

fn check_size(root: &Path, segment: &str, sum: &Sum) -> Result<(), VerifyError> {
    let missing = |source| VerifyError::Missing { segment: segment.into(), path: sum.path.clone(), source };
    let found = fs::symlink_metadata(below(root, &sum.path)).map_err(missing)?.len();
    match found == sum.size {
        true => Ok(()),
        false => Err(VerifyError::Size { path: sum.path.clone(), expected: sum.size, found }),
    }
}

/// Compares a root image, a file or a disk of at least that size: by XXH64, or by SHA-256 where that is not given. What an
/// accident does, the first finds as well, in a tenth of the time.
fn check_image(file: File, sum: &Sum, xxh64: Option<&str>) -> Result<(), VerifyError> {
    let mut buffer = buffer();
    let Some(expected) = xxh64 else { return check_hash(file, sum, &mut buffer) };
    let mut hasher = XxHash64::with_seed(0);
    feed(file, sum, &mut buffer, &mut |bytes| hasher.write(bytes))?;
    compare(hex(&hasher.finish().to_be_bytes()), expected, &sum.path)
}

/// Compares a kernel module just before it is loaded.
pub fn check_module(file: &Path, xxh64: &str) -> Result<(), VerifyError> {
    let path = file.to_string_lossy();
    let bytes = fs::read(file).map_err(not_read(&path))?;
    compare(hex(&XxHash64::oneshot(0, &bytes).to_be_bytes()), xxh64, &path)
}

fn check_hash(file: File, sum: &Sum, buffer: &mut [u8]) -> Result<(), VerifyError> {
    let mut hasher = Sha256::new();
    feed(file, sum, buffer, &mut |bytes| hasher.update(bytes))?;
    compare(hex(&hasher.finalize()), &sum.sha256, &sum.path)
}

/// Room for a chunk that starts where a block does. Made once for many files: memory that is given back makes the kernel
/// interrupt all processors that run PID1.
fn buffer() -> Vec<u8> {
    vec![0; CHUNK + BLOCK]
}

/// Reads as many bytes as the file has by its sum: the file's own, or the start of a disk.
fn feed(mut file: File, sum: &Sum, buffer: &mut [u8], hash: &mut dyn FnMut(&[u8])) -> Result<(), VerifyError> {
    let start = buffer.as_ptr().align_offset(BLOCK);
    let mut left = sum.size;
    while left > 0 {
        let chunk = &mut buffer[start..start + CHUNK];
        let read = file.read(chunk).map_err(not_read(&sum.path))?;
        if read == 0 {
            return Err(VerifyError::Size { path: sum.path.clone(), expected: sum.size, found: sum.size - left });
        }
        let ours = read.min(usize::try_from(left).unwrap_or(usize::MAX));
        hash(&chunk[..ours]);
        left -= ours as u64;
    }
    Ok(())
}

fn compare(found: String, expected: &str, path: &str) -> Result<(), VerifyError> {
    match found == expected {
        true => Ok(()),
        false => Err(VerifyError::Hash { path: path.into(), expected: expected.into(), found }),
    }
}

fn below(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(relative(path))
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_contract::sums::format_sums;

    /// A segment `root` with one file of 5 bytes, its sums file, and what boot.json says about it.
    fn segment(name: &str) -> (std::path::PathBuf, SegmentSums, Sum) {
        let root = std::env::temp_dir().join(format!("bootwright-verify-{}-{name}", std::process::id()));
        fs::create_dir_all(root.join("bootwright/sums")).unwrap();
        fs::write(root.join("file"), "hello").unwrap();
        let sum = Sum {
            sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824".into(),
            size: 5,
            path: "/file".into(),
        };
        let text = format_sums(std::slice::from_ref(&sum));
        fs::write(root.join("bootwright/sums/root"), &text).unwrap();
        let sums = SegmentSums { name: "root".into(), sums_sha256: hex(&Sha256::digest(text)), xxh64: None };
        (root, sums, sum)
    }

    fn check(root: &Path, sums: &SegmentSums) -> Result<(), String> {
        let all = load_sums(root, sums).map_err(|e| e.to_string())?;
        all.iter().try_for_each(|sum| check_size(root, &sums.name, sum)).map_err(|e| e.to_string())?;
        let top = File::open(root).unwrap();
        let open = |sum: &Sum| open_below(&top, sum, OFlag::empty()).map_err(not_read(&sum.path));
        check_files(&all, sums.xxh64.as_deref(), &open).map_err(|e| e.to_string())
    }

    #[test]
    fn good_truncated_damaged_and_missing() {
        let (root, sums, _) = segment("all");
        assert_eq!(check(&root, &sums), Ok(()));
        for (content, expected) in
            [("hell", "`/file` is truncated: found 4 of 5 bytes"), ("hellO", "`/file` is damaged")]
        {
            fs::write(root.join("file"), content).unwrap();
            let error = check(&root, &sums).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        fs::remove_file(root.join("file")).unwrap();
        assert!(check(&root, &sums).unwrap_err().starts_with("`/file` is missing from segment `root`"));
        fs::write(root.join("bootwright/sums/root"), "").unwrap();
        assert!(check(&root, &sums).unwrap_err().starts_with("segment `root` does not belong to this image"));
        fs::remove_file(root.join("bootwright/sums/root")).unwrap();
        assert!(check(&root, &sums).unwrap_err().starts_with("segment `root` is missing or truncated"));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_nodes_segment_is_checked_by_what_the_command_line_says() {
        let (root, sums, _) = segment("node");
        fs::rename(root.join("bootwright/sums/root"), root.join("bootwright/sums/node")).unwrap();
        let named = |sha256: &str| node_segment(Some(sha256)).unwrap();
        assert_eq!(check(&root, &named(&sums.sums_sha256)), Ok(()));
        let error = check(&root, &named("00")).unwrap_err();
        assert!(error.starts_with("segment `node` does not belong to this image"), "{error}");
        fs::remove_file(root.join("bootwright/sums/node")).unwrap();
        let error = check(&root, &named(&sums.sums_sha256)).unwrap_err();
        assert!(error.starts_with("segment `node` is missing or truncated"), "{error}");
        assert_eq!(node_segment(None), None);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn an_export_is_of_this_build_and_whole() {
        let (root, sums, _) = segment("export");
        let check = |expected: &str| {
            let sums = load_export(&root, "nfs://h/x", expected).map_err(|e| e.to_string())?;
            check_export_sizes(&root, "nfs://h/x", &sums).map_err(|e| e.to_string())?;
            let top = File::open(&root).unwrap();
            let open = |sum: &Sum| open_below(&top, sum, OFlag::empty()).map_err(not_read(&sum.path));
            // What `xxhsum -H64` prints for `hello`, and none.
            let [by_xxh64, by_sha256] = [Some("26c7827d889f6da3"), None]
                .map(|xxh64| check_files(&sums, xxh64, &open).map_err(|e| e.to_string()));
            assert_eq!(by_xxh64, by_sha256);
            by_sha256
        };
        let sha256 = &sums.sums_sha256;
        assert_eq!(check(sha256), Ok(()));
        let error = check("00").unwrap_err();
        assert!(error.starts_with("the export `nfs://h/x` is of another build"), "{error}");
        fs::write(root.join("file"), "hell").unwrap();
        let error = check(sha256).unwrap_err();
        assert!(error.starts_with("`/file` in the export `nfs://h/x` is truncated: found 4 of 5 bytes"), "{error}");
        fs::write(root.join("file"), "hellO").unwrap();
        let error = check(sha256).unwrap_err();
        assert!(error.starts_with("`/file` is damaged: its hash is "), "{error}");
        fs::remove_file(root.join("file")).unwrap();
        let error = check(sha256).unwrap_err();
        assert!(error.starts_with("`/file` is not in the export `nfs://h/x`"), "{error}");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_root_image_is_compared_by_its_xxh64_or_its_sha256() {
        let (root, _, sum) = segment("xxh64");
        let check = |xxh64| {
            let file = File::open(root.join("file")).unwrap();
            check_image(file, &sum, xxh64).map_err(|e| e.to_string())
        };
        // What `xxhsum -H64` prints for `hello`.
        let xxh64 = Some("26c7827d889f6da3");
        fs::write(root.join("file"), "hello, and what a disk has behind it").unwrap();
        assert_eq!((check(xxh64), check(None)), (Ok(()), Ok(())));
        fs::write(root.join("file"), "hellO").unwrap();
        for error in [check(xxh64).unwrap_err(), check(None).unwrap_err()] {
            assert!(error.starts_with("`/file` is damaged: its hash is "), "{error}");
        }
        fs::write(root.join("file"), "hell").unwrap();
        let error = check(xxh64).unwrap_err();
        assert!(error.starts_with("`/file` is truncated: found 4 of 5 bytes"), "{error}");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn modules_are_left_to_those_who_load_them() {
        let (root, _, sum) = segment("modules");
        fs::create_dir_all(root.join("lib/modules/6.1/kernel")).unwrap();
        fs::write(root.join("lib/modules/6.1/kernel/a.ko"), "hellO").unwrap();
        let module = Sum { path: "/lib/modules/6.1/kernel/a.ko".into(), ..sum.clone() };
        let top = File::open(&root).unwrap();
        let open = |sum: &Sum| open_below(&top, sum, OFlag::empty()).map_err(not_read(&sum.path));
        let sums = [sum, module];
        // What `xxhsum -H64` prints for `hello`: that of the other file alone.
        assert!(check_files(&sums, Some("26c7827d889f6da3"), &open).is_ok());
        let error = check_files(&sums, None, &open).unwrap_err().to_string();
        assert!(error.starts_with("`/lib/modules/6.1/kernel/a.ko` is damaged"), "{error}");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn hex_digits() {
        assert_eq!(hex(&[0, 0x1f, 0xa0]), "001fa0");
    }
}
