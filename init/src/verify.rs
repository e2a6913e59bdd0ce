//! Phase `verify`: is all there that was packed, byte for byte?
//!
//! A failed unpack does not stop the kernel: it logs a line, leaves truncated files and runs an earlier `/init`.
//! So sizes are checked first, of all segments: that takes no time and finds what a lack of RAM does. Then contents;
//! the root image, by far the largest file, is hashed in a thread while the next phases go on, and waited for before
//! the services start (phase `image`).

use crate::boot::{Boot, Machine};
use crate::netroot::trust::{self, ImageFacts};
use crate::phases::PhaseError;
use bootwright_contract::sums::{Sum, parse_sums};
use bootwright_contract::{RootImage, SegmentSums, paths};
use nix::fcntl::{OFlag, openat};
use nix::libc;
use nix::sys::stat::Mode;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::{self, JoinHandle};
use twox_hash::XxHash64;

/// Read at once; small, as the page cache holds the file already.
const CHUNK: usize = 64 << 10;
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
    Some(SegmentSums { name: paths::NODE_SUMS.into(), sums_sha256: sums_sha256?.into() })
}

/// Phase `verify`; `bw.verify=0` leaves the hashes out, not the sizes. A root image in memory is compared by XXH64, with
/// `bw.verify=sha256` by SHA-256.
pub fn check_segments(machine: &Machine) -> Result<(), PhaseError> {
    let boot = machine.boot()?;
    let root = Path::new("/");
    let mut segments = boot.config.segments.clone();
    segments.extend(node_segment(boot.cmdline.value(NODE_KEY)));
    if boot.cmdline.value(NODE_KEY).is_none() && root.join(&paths::NODE_TREE[1..]).exists() {
        machine.timeline.note("the node's own segment is not used: no bw.node on the kernel command line");
    }
    let sums = load_all_sums(root, &segments)?;
    for (segment, sum) in &sums {
        check_size(root, segment, sum)?;
    }
    if boot.cmdline.value("bw.verify") == Some("0") {
        return Ok(());
    }
    let (image, others): (Vec<Sum>, Vec<Sum>) =
        sums.into_iter().map(|(_, sum)| sum).partition(|s| s.path == paths::ROOT_IMAGE);
    // The thread starts first: with two processors it costs nothing.
    let xxh64 = boot.config.root.xxh64.clone().filter(|_| !wants_sha256(boot));
    for sum in image {
        // Opened now: the name is gone after the switch.
        let file = File::open(&sum.path).map_err(|source| VerifyError::Read { path: sum.path.clone(), source })?;
        let xxh64 = xxh64.clone();
        let hash = move || match xxh64 {
            Some(expected) => check_xxh64(file, sum.path, expected),
            None => check_hash(file, &sum),
        };
        hash_aside(machine, Box::new(hash))?;
    }
    for sum in &others {
        let file = File::open(&sum.path).map_err(|source| VerifyError::Read { path: sum.path.clone(), source })?;
        check_hash(file, sum)?;
    }
    Ok(())
}

fn wants_sha256(boot: &Boot) -> bool {
    boot.cmdline.value("bw.verify") == Some("sha256")
}

/// Starts a thread that hashes, for phase `image` to wait for. A boxed function: the library's spawn is compiled once.
fn hash_aside(machine: &Machine, work: Box<dyn FnOnce() -> Result<(), VerifyError> + Send>) -> io::Result<()> {
    machine.keep_hashing(thread::Builder::new().name("hash".into()).spawn(work)?);
    Ok(())
}

/// Phase `image`: the root image is what was built.
pub fn await_image(machine: &Machine) -> Result<(), PhaseError> {
    match machine.take_hashing().map(JoinHandle::join) {
        None => Ok(()),
        Some(Ok(checked)) => Ok(checked?),
        Some(Err(_)) => Err(HasherDied.into()),
    }
}

/// What the thread gives back.
pub type Hashing = JoinHandle<Result<(), VerifyError>>;

/// Checks the size of a root image on a block device, and starts to hash it; says what kind of image it is. The device may
/// be larger than the image: disks come in whole sectors, or more.
pub fn check_device(machine: &Machine, device: &Path) -> Result<RootImage, PhaseError> {
    let boot = machine.boot()?;
    let path = device.to_string_lossy().into_owned();
    let ImageFacts { size, sha256, image, .. } = trust::facts_elsewhere(machine)?;
    let read = |source| VerifyError::Read { path: path.clone(), source };
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(device).map_err(read)?;
    let found = file.seek(SeekFrom::End(0)).map_err(read)?;
    file.rewind().map_err(read)?;
    if found < size {
        return Err(VerifyError::Device { path, expected: size, found }.into());
    }
    if boot.cmdline.value("bw.verify") != Some("0") {
        let sum = Sum { path, size, sha256 };
        hash_aside(machine, Box::new(move || check_direct(file, &sum)))?;
    }
    Ok(image)
}

/// Checks that an exported tree mounted on `top` is the right one and that all its files have their sizes, and
/// starts to hash them. One that is `written` to changes: there the sums file alone says what it is.
pub fn check_tree(machine: &Machine, top: &Path, export: &str, written: bool) -> Result<(), PhaseError> {
    let boot = machine.boot()?;
    let expected = trust::facts_elsewhere(machine)?.tree_sums_sha256;
    let sums = load_export(top, export, &expected)?;
    if written {
        return Ok(());
    }
    check_export_sizes(top, export, &sums)?;
    if boot.cmdline.value("bw.verify") != Some("0") {
        // Opened now: its place changes with the switch.
        let (top, xxh64) = (File::open(top)?, boot.config.root.xxh64.clone().filter(|_| !wants_sha256(boot)));
        hash_aside(machine, Box::new(move || check_files(&top, &sums, xxh64.as_deref())))?;
    }
    Ok(())
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
    for sum in sums {
        let found = fs::symlink_metadata(below(top, &sum.path)).map_err(not_exported(&sum.path, export))?.len();
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

/// Compares the files below an open folder, wherever that is mounted: all together by XXH64, and when that is not known or
/// wrong each by SHA-256. They stay in the page cache: services read most of them next.
fn check_files(top: &File, sums: &[Sum], xxh64: Option<&str>) -> Result<(), VerifyError> {
    if let Some(expected) = xxh64 {
        let mut hasher = XxHash64::with_seed(0);
        for sum in sums {
            add_xxh64(open_below(top, sum)?, &mut hasher).map_err(not_read(&sum.path))?;
        }
        if hex(&hasher.finish().to_be_bytes()) == expected {
            return Ok(());
        }
    }
    sums.iter().try_for_each(|sum| check_hash(open_below(top, sum)?, sum))
}

fn open_below(top: &File, sum: &Sum) -> Result<File, VerifyError> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    match openat(top, sum.path.trim_start_matches('/'), flags, Mode::empty()) {
        Ok(file) => Ok(file.into()),
        Err(errno) => Err(not_read(&sum.path)(errno.into())),
    }
}

fn not_read(path: &str) -> impl FnOnce(io::Error) -> VerifyError {
    move |source| VerifyError::Read { path: path.into(), source }
}

/// Hashes past the page cache: what is read here once must not push out what the node reads.
fn check_direct(mut file: File, sum: &Sum) -> Result<(), VerifyError> {
    let mut buffer = vec![0; CHUNK + BLOCK];
    let start = buffer.as_ptr().align_offset(BLOCK);
    let mut hasher = Sha256::new();
    let mut left = sum.size;
    while left > 0 {
        let chunk = &mut buffer[start..start + CHUNK];
        let read = file.read(chunk).map_err(|source| VerifyError::Read { path: sum.path.clone(), source })?;
        if read == 0 {
            return Err(VerifyError::Device { path: sum.path.clone(), expected: sum.size, found: sum.size - left });
        }
        let ours = read.min(usize::try_from(left).unwrap_or(usize::MAX));
        hasher.update(&chunk[..ours]);
        left -= ours as u64;
    }
    check_digest(hex(&hasher.finalize()), sum)
}

#[derive(Debug, thiserror::Error)]
#[error("the thread that hashes the root image has died")]
struct HasherDied;

fn load_all_sums<'a>(root: &Path, segments: &'a [SegmentSums]) -> Result<Vec<(&'a str, Sum)>, VerifyError> {
    let mut all = Vec::new();
    for segment in segments {
        let name = segment.name.as_str();
        all.extend(load_sums(root, segment)?.into_iter().map(|sum| (name, sum)));
    }
    Ok(all)
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

fn check_hash(file: File, sum: &Sum) -> Result<(), VerifyError> {
    let found = hash_file(file).map_err(|source| VerifyError::Read { path: sum.path.clone(), source })?;
    check_digest(found, sum)
}

/// What an accident does to a file, this finds as SHA-256 would, in a tenth of the time.
fn check_xxh64(file: File, path: String, expected: String) -> Result<(), VerifyError> {
    let mut hasher = XxHash64::with_seed(0);
    add_xxh64(file, &mut hasher).map_err(not_read(&path))?;
    let found = hex(&hasher.finish().to_be_bytes());
    match found == expected {
        true => Ok(()),
        false => Err(VerifyError::Hash { path, expected, found }),
    }
}

fn add_xxh64(mut file: File, hasher: &mut XxHash64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(()),
            n => hasher.write(&chunk[..n]),
        }
    }
}

fn check_digest(found: String, sum: &Sum) -> Result<(), VerifyError> {
    match found == sum.sha256 {
        true => Ok(()),
        false => Err(VerifyError::Hash { path: sum.path.clone(), expected: sum.sha256.clone(), found }),
    }
}

fn hash_file(mut file: File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&chunk[..n]),
        }
    }
}

fn below(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(path.trim_start_matches('/'))
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
        let sums = SegmentSums { name: "root".into(), sums_sha256: hex(&Sha256::digest(text)) };
        (root, sums, sum)
    }

    fn check(root: &Path, sums: &SegmentSums) -> Result<(), String> {
        let all = load_all_sums(root, std::slice::from_ref(sums)).map_err(|e| e.to_string())?;
        for (segment, sum) in &all {
            check_size(root, segment, sum).map_err(|e| e.to_string())?;
            check_hash(File::open(below(root, &sum.path)).unwrap(), sum).map_err(|e| e.to_string())?;
        }
        Ok(())
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
            // What `xxhsum -H64` prints for `hello`, and none.
            let [by_xxh64, by_sha256] = [Some("26c7827d889f6da3"), None]
                .map(|xxh64| check_files(&File::open(&root).unwrap(), &sums, xxh64).map_err(|e| e.to_string()));
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
    fn a_root_image_in_memory_is_compared_by_its_xxh64() {
        let (root, _, _) = segment("xxh64");
        let check = |expected: &str| {
            let file = File::open(root.join("file")).unwrap();
            check_xxh64(file, "/file".into(), expected.into()).map_err(|e| e.to_string())
        };
        // What `xxhsum -H64` prints for `hello`.
        assert_eq!(check("26c7827d889f6da3"), Ok(()));
        fs::write(root.join("file"), "hellO").unwrap();
        let error = check("26c7827d889f6da3").unwrap_err();
        assert!(error.starts_with("`/file` is damaged: its hash is "), "{error}");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn hex_digits() {
        assert_eq!(hex(&[0, 0x1f, 0xa0]), "001fa0");
    }
}
