//! Small archives written from one line of text, and trees as sorted listings: a reference's on the disk and ours.

use bootwright::cache::Cache;
use bootwright::entry::{Body, Entry, Kind, Sha256};
use bootwright::source::archive::rootfs::{Contents, Manner, Rootfs};
use bootwright::source::archive::{Limits, open_tar};
use bootwright::source::{FlawKind, SourceError};
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use tar::{EntryType, Header};

/// What we make of an input beside what the reference makes of it.
#[derive(Debug, Clone, Copy)]
pub enum Ours {
    /// The same tree, or refused by both.
    Same,
    /// The same tree without device nodes and fifos: the machine makes its own.
    WithoutNodes,
    /// Refused by us alone, and why.
    Refused(&'static str),
    /// Taken by us alone, and why.
    Taken(&'static str),
}

/// A tree, or the words of a refusal.
pub type Verdict = Result<Vec<String>, String>;

/// An archive in words: `a/` is a folder, `a=x` a file with that body, `a->b` a symlink, `a==b` a hard link, `a%c`, `a%b` and
/// `a%p` are a character device, a block device and a fifo; `@4755` behind a word is the mode. Names are written as they are.
pub fn archive(text: &str) -> Vec<u8> {
    let mut tar = Vec::new();
    for word in text.split_whitespace() {
        let (word, mode) = word.rsplit_once('@').map_or((word, None), |(word, mode)| (word, Some(mode)));
        let (name, kind, link, body) = if let Some((name, link)) = word.split_once("->") {
            (name, EntryType::Symlink, link, "")
        } else if let Some((name, link)) = word.split_once("==") {
            (name, EntryType::Link, link, "")
        } else if let Some((name, body)) = word.split_once('=') {
            (name, EntryType::Regular, "", body)
        } else if let Some((name, node)) = word.split_once('%') {
            let kind = match node {
                "c" => EntryType::Char,
                "b" => EntryType::Block,
                _ => EntryType::Fifo,
            };
            (name, kind, "", "")
        } else {
            (word, EntryType::Directory, "", "")
        };
        let default = if kind == EntryType::Directory { 0o755 } else { 0o644 };
        let mode = mode.map_or(default, |mode| u32::from_str_radix(mode, 8).expect("an octal mode"));
        member(&mut tar, kind, name.as_bytes(), link, mode, body.as_bytes());
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// Appends one member, owned by whoever runs the test.
pub fn member(tar: &mut Vec<u8>, kind: EntryType, name: &[u8], link: &str, mode: u32, body: &[u8]) {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(nix::unistd::geteuid().as_raw().into());
    header.set_gid(nix::unistd::getegid().as_raw().into());
    header.set_size(body.len() as u64);
    if matches!(kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(1).expect("a small number");
        header.set_device_minor(3).expect("a small number");
    }
    header.set_cksum();
    tar.extend(header.as_bytes());
    tar.extend(body);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

/// A line for each entry: path, kind and mode, owner, then a link's target, or a body's hash and the first name of its file.
pub fn list_disk(root: &Path) -> Vec<String> {
    let mut first: BTreeMap<u64, String> = BTreeMap::new();
    let mut lines = Vec::new();
    if !root.exists() {
        // A whiteout took the folder itself away.
        return lines;
    }
    let found = walkdir::WalkDir::new(root).min_depth(1).into_iter().map(|entry| entry.expect("it is readable"));
    let mut paths: Vec<_> = found.map(|entry| entry.into_path()).collect();
    paths.sort_by_key(|path| path.strip_prefix(root).expect("below it").as_os_str().to_owned());
    for path in paths {
        let meta = path.symlink_metadata().expect("it is there");
        let name = path.strip_prefix(root).expect("below it").to_string_lossy().into_owned();
        let kind = meta.file_type();
        let (letter, mode, rest) = if kind.is_dir() {
            ('d', meta.mode() & 0o7777, String::new())
        } else if kind.is_symlink() {
            ('l', 0o777, path.read_link().expect("a link").to_string_lossy().into_owned())
        } else if kind.is_file() {
            let body = std::fs::read(&path).expect("it is readable");
            let first = first.entry(meta.ino()).or_insert_with(|| name.clone());
            ('f', meta.mode() & 0o7777, format!("{} {first}", Sha256::of(&body)))
        } else {
            assert!(kind.is_char_device() || kind.is_block_device() || kind.is_fifo(), "{name}");
            ('n', 0, String::new())
        };
        lines.push(format!("{name} {letter}{mode:o} {}:{} {rest}", meta.uid(), meta.gid()));
    }
    lines
}

/// The same lines of what we read.
fn list_entries(entries: &[Entry]) -> Vec<String> {
    let bodies: BTreeMap<&str, &Body> = entries
        .iter()
        .filter_map(|e| if let Kind::File(body) = &e.kind { Some((e.path.as_str(), body)) } else { None })
        .collect();
    let line = |entry: &Entry| {
        let file = |first: &str| {
            let body = bodies[first];
            let bytes = body.read_start(u64::MAX).expect("the cache is readable");
            assert_eq!(Sha256::of(&bytes), body.sha256, "{first}");
            format!("{} {first}", body.sha256)
        };
        let (letter, rest) = match &entry.kind {
            Kind::Dir => ('d', String::new()),
            Kind::Symlink(target) => ('l', target.clone()),
            Kind::File(_) => ('f', file(&entry.path)),
            Kind::Hardlink(first) => ('f', file(first)),
            other => panic!("no archive gives {other:?}"),
        };
        (entry.path.clone(), format!("{} {letter}{:o} {}:{} {rest}", entry.path, entry.mode, entry.uid, entry.gid))
    };
    let mut lines: BTreeMap<String, String> = entries.iter().map(line).collect();
    // Folders that no archive named are made when the image is, as the references make them.
    for entry in entries {
        for (end, _) in entry.path.match_indices('/') {
            let (path, [uid, gid]) = (&entry.path[..end], owner());
            lines.entry(path.into()).or_insert_with(|| format!("{path} d755 {uid}:{gid} "));
        }
    }
    lines.into_values().collect()
}

/// Of whoever runs the test.
fn owner() -> [u32; 2] {
    [nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()]
}

/// What we make of archives that are laid over each other; refused when all of it is wanted and not all of it can be had.
pub fn ours(manner: Manner, archives: &[Vec<u8>]) -> Verdict {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = Cache::open(dir.path()).expect("it is writable");
    let mut rootfs = Rootfs::new(manner);
    for bytes in archives {
        let (sha256, _) = cache.put_blob(bytes).expect("it is writable");
        let unpacked =
            open_tar(&cache, &sha256, "archive", Limits::default(), 1).map_err(|e: SourceError| e.to_string())?;
        rootfs.lay("archive", &unpacked.members);
    }
    let Contents { entries, flaws } = rootfs.finish();
    match flaws.iter().find(|flaw| flaw.kind == FlawKind::Unusable) {
        Some(flaw) => Err(format!("{} at `{}`", flaw.problem, flaw.path)),
        None => Ok(list_entries(&entries)),
    }
}

/// Compares; an error says in what they differ from what the table says.
pub fn compare(expected: Ours, reference: &Verdict, ours: &Verdict) -> Result<(), String> {
    let nodes = |line: &String| line.contains(" n0 ");
    let fine = match (expected, reference, ours) {
        (Ours::Same, Ok(reference), Ok(ours)) => reference == ours,
        (Ours::Same, Err(_), Err(_)) => true,
        (Ours::WithoutNodes, Ok(reference), Ok(ours)) => {
            let kept: Vec<&String> = reference.iter().filter(|line| !nodes(line)).collect();
            kept.len() < reference.len() && kept == ours.iter().collect::<Vec<_>>()
        }
        (Ours::Refused(_), Ok(_), Err(_)) | (Ours::Taken(_), Err(_), Ok(_)) => true,
        _ => false,
    };
    let why = match expected {
        Ours::Same => "the same",
        Ours::WithoutNodes => "the same without nodes",
        Ours::Refused(why) | Ours::Taken(why) => why,
    };
    if fine { Ok(()) } else { Err(format!("{expected:?}: {why}\nreference: {reference:#?}\nours: {ours:#?}")) }
}
