//! Folders of files laid into the image, and the files that are written in the recipe itself.

use super::build::Render;
use super::links::merge_usr;
use super::{Draft, Reason, TreeEntry, TreeError};
use crate::entry::{Body, BodyAt, Entry, Kind, MAX_FILE, Sha256, parse_entry_path};
use crate::recipe::{InlineBody, InlineFile, Overlay, SegmentName};
use sha2::Digest;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use walkdir::WalkDir;

/// Larger files stay on disk until they are packed.
const IN_MEMORY: u64 = 1 << 20;

/// What every further name of PID1 points to: the running binary itself, wherever the root is.
const PID1: &str = "/proc/1/exe";

/// Adds all that is below the overlay's folder. Files are 0755 if their owner may run them, else 0644, owner root,
/// whatever the umask was when they were checked out; `x.j2` is a template and becomes `x`.
pub fn add_overlay(overlay: &Overlay, render: Render<'_>, draft: &mut Draft) -> Result<(), TreeError> {
    for found in WalkDir::new(&overlay.dir).min_depth(1).sort_by_file_name() {
        let found = found.map_err(|e| {
            let path = e.path().unwrap_or(&overlay.dir).to_path_buf();
            let cause = e.into_io_error().unwrap_or_else(|| std::io::Error::other("a loop of symlinks"));
            TreeError::Read { path, origin: overlay.origin.clone(), cause }
        })?;
        let inner = found.path().strip_prefix(&overlay.dir).expect("it was found below the folder");
        add_one(overlay, found.path(), inner, render, draft)?;
    }
    Ok(())
}

fn add_one(
    overlay: &Overlay,
    file: &Path,
    inner: &Path,
    render: Render<'_>,
    draft: &mut Draft,
) -> Result<(), TreeError> {
    let origin = || overlay.origin.clone();
    let read = |cause| TreeError::Read { path: file.into(), origin: origin(), cause };
    let not_utf8 = || TreeError::NotUtf8 { path: file.into(), origin: origin() };
    let inner = inner.to_str().ok_or_else(not_utf8)?;
    let facts = file.symlink_metadata().map_err(read)?;
    let (mut inner, mut mode) = (inner, 0o755);
    let kind = if facts.is_dir() {
        Kind::Dir
    } else if facts.is_symlink() {
        let target = std::fs::read_link(file).map_err(read)?;
        mode = 0o777;
        Kind::Symlink(target.to_str().ok_or_else(not_utf8)?.into())
    } else if facts.is_file() {
        mode = if facts.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
        match inner.strip_suffix(".j2") {
            Some(rendered) => {
                inner = rendered;
                Kind::File(render_file(overlay, file, render)?)
            }
            None => Kind::File(load_body(overlay, file, inner, facts.len())?),
        }
    } else {
        return Err(TreeError::SpecialFile { path: file.into(), origin: origin() });
    };
    let path = parse_entry_path(&format!("{}/{inner}", overlay.to)).map_err(|problem| TreeError::BadPath {
        path: file.into(),
        origin: origin(),
        problem,
    })?;
    draft.add(TreeEntry {
        entry: Entry { path: place(path, kind == Kind::Dir, overlay.segment), kind, mode, uid: 0, gid: 0 },
        component: format!("overlay:{}", overlay.dir.file_name().unwrap_or_default().to_string_lossy()),
        origin: origin(),
        reason: Reason::Overlay,
        segment: overlay.segment,
    })
}

fn place(path: String, is_dir: bool, segment: SegmentName) -> String {
    if segment == SegmentName::Boot { path } else { merge_usr(&path, is_dir) }
}

fn render_file(overlay: &Overlay, file: &Path, render: Render<'_>) -> Result<Body, TreeError> {
    let read = |cause| TreeError::Read { path: file.into(), origin: overlay.origin.clone(), cause };
    let template = std::fs::read_to_string(file).map_err(read)?;
    let text = render(file, &template).map_err(|cause| TreeError::Template {
        path: file.into(),
        origin: overlay.origin.clone(),
        cause,
    })?;
    Ok(Body::from_bytes(text.into_bytes()))
}

/// Reads a small file, hashes a large one where it is; one that no archive can hold is refused before it is read.
fn load_body(overlay: &Overlay, file: &Path, inner: &str, size: u64) -> Result<Body, TreeError> {
    let read = |cause| TreeError::Read { path: file.into(), origin: overlay.origin.clone(), cause };
    if size > MAX_FILE {
        let component = "overlay".into();
        let owner = Box::new(super::Owner { component, origin: overlay.origin.clone() });
        return Err(TreeError::TooLarge { path: inner.into(), owner, size, limit: MAX_FILE });
    }
    if size <= IN_MEMORY {
        return Ok(Body::from_bytes(std::fs::read(file).map_err(read)?));
    }
    let mut reader = File::open(file).map_err(read)?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match reader.read(&mut buffer).map_err(read)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(Body { sha256: Sha256(hasher.finalize().into()), size, at: BodyAt::File { path: file.into(), offset: 0 } })
}

/// Adds a file, link or folder that the recipe itself writes.
pub fn add_inline(file: &InlineFile, draft: &mut Draft) -> Result<(), TreeError> {
    let (kind, mode) = match &file.body {
        InlineBody::Text(text) => (Kind::File(Body::from_bytes(text.clone().into_bytes())), file.mode),
        InlineBody::Symlink(target) => (Kind::Symlink(target.clone()), 0o777),
        InlineBody::Dir => (Kind::Dir, file.mode),
        InlineBody::Init => (Kind::Symlink(PID1.into()), 0o777),
    };
    let path = parse_entry_path(&file.path).map_err(|problem| TreeError::BadPath {
        path: file.path.clone().into(),
        origin: file.origin.clone(),
        problem,
    })?;
    let is_init = file.body == InlineBody::Init;
    draft.add(TreeEntry {
        entry: Entry { path: place(path, kind == Kind::Dir, file.segment), kind, mode, uid: file.uid, gid: file.gid },
        component: if is_init { "init".into() } else { "recipe".into() },
        origin: file.origin.clone(),
        reason: if is_init { Reason::Init } else { Reason::Inline },
        segment: file.segment,
    })
}
