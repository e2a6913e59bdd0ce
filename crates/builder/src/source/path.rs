//! A local file or folder, read in place. The lock holds a hash over all of it, so that a build knows when it changed.

use super::{Pin, Pool, Source, SourceError};
use crate::entry::{Body, BodyAt, Entry, Kind, Sha256, parse_entry_path};
use crate::fetch::{Context, VendorFiller};
use crate::local::{Local, LocalError, Modes, Stated};
use crate::recipe::PathSpec;
use sha2::{Digest, Sha256 as Hasher};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

pub struct LocalPath<'a> {
    pub spec: &'a PathSpec,
}

impl LocalPath<'_> {
    fn name(&self) -> String {
        self.spec.path.display().to_string()
    }

    fn scan(&self, cx: &Context<'_>) -> Result<Vec<Entry>, SourceError> {
        load_tree(&cx.recipe_dir.join(&self.spec.path), &self.spec.to, &self.spec.modes)
    }

    fn check_pin(&self, pins: &[Pin], entries: &[Entry]) -> Result<(), SourceError> {
        match pins {
            [pin] if pin.sha256 == listing_sha256(entries) => Ok(()),
            _ => Err(SourceError::BadInput {
                subject: self.name(),
                problem: "it is not what the lock pins".into(),
                help: "it changed since: renew the lock with `bootwright lock`, or build without --locked".into(),
            }),
        }
    }
}

impl Source for LocalPath<'_> {
    fn lock(&self, cx: &Context<'_>) -> Result<Vec<Pin>, SourceError> {
        let entries = self.scan(cx)?;
        let size = entries.iter().map(|e| if let Kind::File(body) = &e.kind { body.size } else { 0 }).sum();
        let (version, detail) = Default::default();
        Ok(vec![Pin { name: self.name(), version, size, sha256: listing_sha256(&entries), detail }])
    }

    /// Fetches nothing: checks that the files are what the lock pins.
    fn fetch(&self, pins: &[Pin], cx: &Context<'_>) -> Result<(), SourceError> {
        self.check_pin(pins, &self.scan(cx)?)
    }

    /// Local files are where the recipe is.
    fn vendor(&self, pins: &[Pin], _to: &VendorFiller<'_>, cx: &Context<'_>) -> Result<(), SourceError> {
        self.fetch(pins, cx)
    }

    fn is_current(&self, pins: &[Pin], cx: &Context<'_>) -> Result<bool, SourceError> {
        Ok(self.lock(cx)? == pins)
    }

    fn open(&self, pins: &[Pin], cx: &Context<'_>) -> Result<Pool, SourceError> {
        let entries = self.scan(cx)?;
        self.check_pin(pins, &entries)?;
        Ok(Pool { entries, ..Pool::default() })
    }
}

/// Lists a file, or a folder with all below it, as it shall lie at `to` in the image: sorted by path, with the owners and
/// permissions that [`Local`] gives. Symlinks and hard links are kept; the folder itself has no entry when `to` is empty.
///
/// # Errors
/// [`SourceError::BadInput`] for devices, sockets, fifos, names that are not UTF-8, relative symlinks out of the folder,
/// and attributes that the image would lose.
pub fn load_tree(path: &Path, to: &str, modes: &Modes) -> Result<Vec<Entry>, SourceError> {
    let to = parse_entry_path(to).map_err(|e| bad(path, format!("its place in the image: {e}")))?;
    let missing = |e: LocalError| match e {
        LocalError::Io(cause) if cause.kind() == ErrorKind::NotFound => not_there(path),
        e => local(path, e),
    };
    let mut here = Local::open(path, modes).map_err(missing)?;
    let mut entries = Vec::new();
    for found in walkdir::WalkDir::new(path).follow_root_links(true).sort_by_file_name() {
        let found = found.map_err(|e| walk_error(path, e))?;
        let below = found.path().strip_prefix(path).expect("a walk stays below its root");
        let name = below.to_str().ok_or_else(|| bad(found.path(), "its name is not UTF-8"))?;
        let place = if name.is_empty() || to.is_empty() { format!("{to}{name}") } else { format!("{to}/{name}") };
        let place = parse_entry_path(&place).map_err(|e| bad(found.path(), e.to_string()))?;
        // The root may be a link to what is meant.
        let meta = if found.depth() == 0 { found.path().metadata() } else { found.path().symlink_metadata() };
        let meta = meta.map_err(|cause| io("read", found.path(), cause))?;
        let kind = load_kind(found.path(), &meta, &place, &mut here)?;
        let inner = if found.depth() == 0 { file_name(path) } else { name };
        if !place.is_empty() {
            let Stated { mode, uid, gid } =
                here.attributes(found.path(), inner, &meta).map_err(|e| local(found.path(), e))?;
            entries.push(Entry { uid, gid, ..Entry::of_root(place, kind, mode) });
        } else if kind != Kind::Dir {
            return Err(bad(path, "a file needs a name in the image"));
        }
    }
    here.check_all_used().map_err(|e| local(path, e))?;
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn load_kind(path: &Path, meta: &std::fs::Metadata, place: &str, here: &mut Local<'_>) -> Result<Kind, SourceError> {
    if meta.is_dir() {
        Ok(Kind::Dir)
    } else if meta.is_file() {
        Ok(match here.other_name(meta, place) {
            Some(first) => Kind::Hardlink(first),
            None => Kind::File(load_body(path)?),
        })
    } else if meta.is_symlink() {
        let target = std::fs::read_link(path).map_err(|cause| io("read", path, cause))?;
        let target = target.to_str().ok_or_else(|| bad(path, "its target is not UTF-8"))?;
        check_symlink(place, target).map_err(|problem| bad(path, problem))?;
        Ok(Kind::Symlink(target.into()))
    } else {
        Err(bad(path, "it is a device, socket or fifo"))
    }
}

fn local(path: &Path, e: LocalError) -> SourceError {
    match e {
        LocalError::Io(cause) => io("read", path, cause),
        e => {
            let (subject, problem) = (path.display().to_string(), e.to_string());
            SourceError::BadInput { subject, problem, help: e.help() }
        }
    }
}

fn not_there(path: &Path) -> SourceError {
    SourceError::BadInput {
        subject: path.display().to_string(),
        problem: "there is no such file or folder".into(),
        help: "correct the component's path; it starts at the recipe's folder".into(),
    }
}

/// Refuses a relative symlink that climbs above the folder: it was made to lead to something on this machine. An absolute one
/// starts at the image's root.
fn check_symlink(path: &str, target: &str) -> Result<(), String> {
    if target.starts_with('/') {
        return Ok(());
    }
    let mut depth = path.matches('/').count();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.checked_sub(1).ok_or(format!("a symlink out of the tree, to `{target}`"))?,
            _ => depth += 1,
        }
    }
    Ok(())
}

fn bad(path: &Path, problem: impl Into<String>) -> SourceError {
    SourceError::BadInput {
        subject: path.display().to_string(),
        problem: problem.into(),
        help: "take it out of the folder, or name another one".into(),
    }
}

fn walk_error(root: &Path, error: walkdir::Error) -> SourceError {
    match error.io_error().map(|cause| cause.kind()) {
        Some(ErrorKind::NotFound) => not_there(root),
        _ => {
            let path = error.path().unwrap_or(root).to_path_buf();
            SourceError::Io { action: "read", path, cause: error.into() }
        }
    }
}

fn io(action: &'static str, path: &Path, cause: std::io::Error) -> SourceError {
    SourceError::Io { action, path: path.into(), cause }
}

/// The body of a file where it is.
fn load_body(path: &Path) -> Result<Body, SourceError> {
    let mut file = File::open(path).map_err(|cause| io("open", path, cause))?;
    let (mut hasher, mut size, mut buffer) = (Hasher::new(), 0, vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).map_err(|cause| io("read", path, cause))? {
            0 => break,
            n => {
                hasher.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
    let path: PathBuf = path.canonicalize().map_err(|cause| io("read", path, cause))?;
    Ok(Body { sha256: Sha256(hasher.finalize().into()), size, at: BodyAt::File { path: path.into(), offset: 0 } })
}

/// The hash of one line an entry: `<kind> <mode> <path>\0<body's sha256 or target>\n`; before the path stands the owner
/// when that is not root.
fn listing_sha256(entries: &[Entry]) -> Sha256 {
    let mut listing = String::new();
    for Entry { path, kind, mode, uid, gid, .. } in entries {
        let (kind, rest) = match kind {
            Kind::Dir => ('d', String::new()),
            Kind::File(body) => ('f', body.sha256.to_string()),
            Kind::Hardlink(target) => ('h', target.clone()),
            Kind::Symlink(target) => ('l', target.clone()),
            other => unreachable!("load_tree makes no {other:?}"),
        };
        let owner = if (*uid, *gid) == (0, 0) { String::new() } else { format!("{uid}:{gid} ") };
        listing.push_str(&format!("{kind} {mode:04o} {owner}{path}\0{rest}\n"));
    }
    Sha256::of(listing.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn tree(umask: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("t");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::write(root.join("bin/tool"), "#!").unwrap();
        std::fs::write(root.join("a.conf"), "text").unwrap();
        symlink("../a.conf", root.join("bin/link")).unwrap();
        for (path, mode) in [("bin/tool", 0o777), ("a.conf", 0o666), ("bin", 0o777), ("", 0o777)] {
            std::fs::set_permissions(root.join(path), std::fs::Permissions::from_mode(mode & !umask)).unwrap();
        }
        dir
    }

    #[test]
    fn umask_and_place_do_not_show() {
        let (a, b) = (tree(0o022), tree(0o077));
        let list = |dir: &tempfile::TempDir| load_tree(&dir.path().join("t"), "/opt/x", &Modes::new()).unwrap();
        let listed: Vec<String> = list(&a).iter().map(|e| format!("{:o} {}", e.mode, e.path)).collect();
        let expected = ["755 opt/x", "644 opt/x/a.conf", "755 opt/x/bin", "777 opt/x/bin/link", "755 opt/x/bin/tool"];
        assert_eq!(listed, expected);
        assert_eq!(listing_sha256(&list(&a)), listing_sha256(&list(&b)));
        assert_eq!(load_tree(&a.path().join("t"), "", &Modes::new()).unwrap().len(), 4);
        assert_eq!(load_tree(&a.path().join("t/a.conf"), "etc/a", &Modes::new()).unwrap()[0].path, "etc/a");
    }

    #[test]
    fn every_change_shows() {
        let dir = tree(0o022);
        let root = dir.path().join("t");
        let hash = || listing_sha256(&load_tree(&root, "x", &Modes::new()).unwrap());
        let mut seen = vec![hash()];
        std::fs::write(root.join("a.conf"), "TEXT").unwrap();
        seen.push(hash());
        std::fs::set_permissions(root.join("a.conf"), std::fs::Permissions::from_mode(0o755)).unwrap();
        seen.push(hash());
        std::fs::create_dir(root.join("empty")).unwrap();
        seen.push(hash());
        std::fs::remove_file(root.join("bin/link")).unwrap();
        symlink("tool", root.join("bin/link")).unwrap();
        seen.push(hash());
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count, "a change did not change the hash");
    }

    #[test]
    fn a_changed_file_is_noticed_before_it_is_used() {
        let dir = tree(0o022);
        let cache = Cache::open(&dir.path().join("cache")).unwrap();
        let (ui, settings) = (crate::ui::Ui::default(), crate::fetch::Settings::default());
        let cx = Context { cache: &cache, ui: &ui, settings: &settings, recipe_dir: dir.path() };
        let spec = PathSpec { path: "t".into(), to: String::new(), modes: Modes::new() };
        let source = LocalPath { spec: &spec };
        let pins = source.lock(&cx).unwrap();
        assert_eq!((pins[0].name.as_str(), pins[0].size), ("t", 6));
        source.fetch(&pins, &cx).unwrap();
        assert_eq!(source.open(&pins, &cx).unwrap().entries.len(), 4);
        std::fs::write(dir.path().join("t/a.conf"), "else").unwrap();
        for error in [source.fetch(&pins, &cx).unwrap_err(), source.open(&pins, &cx).unwrap_err()] {
            assert_eq!(error.to_string(), "`t`: it is not what the lock pins");
            assert!(error.help().contains("bootwright lock"));
        }
    }

    #[test]
    fn what_no_image_should_hold_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let message = |path: &Path| load_tree(path, "x", &Modes::new()).unwrap_err().to_string();
        assert!(message(&dir.path().join("none")).contains("no such file"));
        symlink("../../etc/shadow", dir.path().join("out")).unwrap();
        assert!(message(dir.path()).contains("out of the tree"));
        std::fs::remove_file(dir.path().join("out")).unwrap();
        std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        assert!(message(dir.path()).contains("a device, socket or fifo"));
    }
}
