//! Folders of files laid into the image, and the files that are written in the recipe itself.

use super::links::merge_usr;
use super::{Draft, Owner, Reason, TreeEntry, TreeError};
use crate::entry::{Body, BodyAt, Entry, Kind, MAX_FILE, Sha256, parse_entry_path};
use crate::local::{Local, Stated};
use crate::recipe::{CheckedRecipe, InlineBody, InlineFile, Lineage, Origin, Overlay, SegmentName};
use globset::{GlobBuilder, GlobMatcher};
use sha2::Digest;
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;
use walkdir::WalkDir;

/// Fills in an overlay's template: its file (for messages), its text.
pub type Render<'a> = &'a dyn Fn(&Path, &str) -> Result<String, Box<dyn std::error::Error + Send + Sync>>;

/// Larger files stay on disk until they are packed.
const IN_MEMORY: u64 = 1 << 20;

/// What every further name of PID1 points to: the running binary itself, wherever the root is.
const PID1: &str = "/proc/1/exe";

/// Adds what the recipe's files write themselves and what lies in their overlays. What an extending file brings takes the
/// place of what it extends.
pub fn add_written(recipe: &CheckedRecipe, render: Render<'_>, draft: &mut Draft) -> Result<(), TreeError> {
    enum Written<'a> {
        File(&'a InlineFile),
        Overlay(&'a Overlay),
    }
    let files = recipe.files.iter().map(|file| (&file.origin, Written::File(file)));
    let overlays = recipe.overlays.iter().map(|overlay| (&overlay.origin, Written::Overlay(overlay)));
    let mut written: Vec<_> = files.chain(overlays).collect();
    written.sort_by_key(|(origin, _)| recipe.lineage.order(origin));
    written.into_iter().try_for_each(|(_, written)| match written {
        Written::File(file) => add_inline(file, &recipe.lineage, draft),
        Written::Overlay(overlay) => add_overlay(overlay, &recipe.lineage, render, draft),
    })
}

/// Adds all that is below the overlay's folder, with the owners and permissions that [`Local`] gives; `x.j2` is a template and
/// becomes `x`.
pub fn add_overlay(
    overlay: &Overlay,
    lineage: &Lineage,
    render: Render<'_>,
    draft: &mut Draft,
) -> Result<(), TreeError> {
    let failed = |cause| TreeError::Local { path: overlay.dir.clone(), origin: overlay.origin.clone(), cause };
    let mut here = Local::open(&overlay.dir, &overlay.modes).map_err(failed)?;
    let mut excluded = Excluded::of(overlay)?;
    for found in WalkDir::new(&overlay.dir).min_depth(1).sort_by_file_name() {
        let found = found.map_err(|e| {
            let path = e.path().unwrap_or(&overlay.dir).to_path_buf();
            let cause = e.into_io_error().unwrap_or_else(|| std::io::Error::other("a loop of symlinks"));
            TreeError::Read { path, origin: overlay.origin.clone(), cause }
        })?;
        let inner = found.path().strip_prefix(&overlay.dir).expect("it was found below the folder");
        let inner = Inner::of(overlay, found.path(), inner)?;
        match excluded.holds(&inner.name) {
            true => here.pass_over(&inner.name),
            false => {
                let entry = read_one(overlay, found.path(), inner, &mut here, render)?;
                draft.add_written(entry, lineage)?;
            }
        }
    }
    excluded.check_all_used(overlay)?;
    here.check_all_used().map_err(failed)
}

/// What of an overlay's folder is left out.
struct Excluded<'a> {
    /// With whether it matched anything.
    patterns: Vec<(&'a str, GlobMatcher, bool)>,
}

impl<'a> Excluded<'a> {
    fn of(overlay: &'a Overlay) -> Result<Self, TreeError> {
        let glob =
            |pattern: &'a String| match GlobBuilder::new(pattern.trim_matches('/')).literal_separator(true).build() {
                Ok(glob) => Ok((pattern.as_str(), glob.compile_matcher(), false)),
                Err(cause) => {
                    let (pattern, component, origin) = (pattern.clone(), overlay.shown(), overlay.origin.clone());
                    Err(TreeError::BadPattern { pattern, component, origin, cause })
                }
            };
        Ok(Self { patterns: overlay.exclude.iter().map(glob).collect::<Result<_, _>>()? })
    }

    /// The path or a folder that it lies in matches.
    fn holds(&mut self, inner: &str) -> bool {
        let ends = inner.match_indices('/').map(|(end, _)| end).chain([inner.len()]);
        let paths: Vec<&str> = ends.map(|end| &inner[..end]).collect();
        let mut holds = false;
        for (_, glob, used) in &mut self.patterns {
            let hit = paths.iter().any(|path| glob.is_match(path));
            *used |= hit;
            holds |= hit;
        }
        holds
    }

    fn check_all_used(&self, overlay: &Overlay) -> Result<(), TreeError> {
        match self.patterns.iter().find(|(_, _, used)| !used) {
            Some((pattern, ..)) => {
                let (pattern, overlay, origin) = (pattern.to_string(), overlay.shown(), overlay.origin.clone());
                Err(TreeError::NothingToExclude { pattern, overlay, origin })
            }
            None => Ok(()),
        }
    }
}

/// A file's path below its overlay's folder.
struct Inner {
    /// Without the `.j2` of a template.
    name: String,
    is_template: bool,
    facts: Metadata,
}

impl Inner {
    fn of(overlay: &Overlay, file: &Path, inner: &Path) -> Result<Self, TreeError> {
        let origin = || overlay.origin.clone();
        let inner = inner.to_str().ok_or_else(|| TreeError::NotUtf8 { path: file.into(), origin: origin() })?;
        let read = |cause| TreeError::Read { path: file.into(), origin: origin(), cause };
        let facts = file.symlink_metadata().map_err(read)?;
        let template = facts.is_file().then(|| inner.strip_suffix(".j2")).flatten();
        Ok(Self { name: template.unwrap_or(inner).into(), is_template: template.is_some(), facts })
    }
}

fn read_one(
    overlay: &Overlay,
    file: &Path,
    inner: Inner,
    here: &mut Local<'_>,
    render: Render<'_>,
) -> Result<TreeEntry, TreeError> {
    let Inner { name: inner, is_template, facts } = inner;
    let origin = || overlay.origin.clone();
    let path = parse_entry_path(&format!("{}/{inner}", overlay.to)).map_err(|problem| TreeError::BadPath {
        path: file.into(),
        origin: origin(),
        problem,
    })?;
    let path = place(path, facts.is_dir(), overlay.segment);
    let kind = if facts.is_dir() {
        Kind::Dir
    } else if facts.is_symlink() {
        let target = std::fs::read_link(file);
        let target = target.map_err(|cause| TreeError::Read { path: file.into(), origin: origin(), cause })?;
        let not_utf8 = || TreeError::NotUtf8 { path: file.into(), origin: origin() };
        Kind::Symlink(target.to_str().ok_or_else(not_utf8)?.into())
    } else if is_template {
        Kind::File(render_file(overlay, file, render)?)
    } else if facts.is_file() {
        match here.other_name(&facts, &path) {
            Some(first) => Kind::Hardlink(first),
            None => Kind::File(load_body(overlay, file, &inner, facts.len())?),
        }
    } else {
        return Err(TreeError::SpecialFile { path: file.into(), origin: origin() });
    };
    let attributes = here.attributes(file, &inner, &facts);
    let Stated { mode, uid, gid } =
        attributes.map_err(|cause| TreeError::Local { path: file.into(), origin: origin(), cause })?;
    Ok(TreeEntry {
        entry: Entry { uid, gid, ..Entry::of_root(path, kind, mode) },
        component: format!("overlay:{}", overlay.shown()),
        origin: origin(),
        // A folder whose permissions the recipe writes does not give way to another one.
        reason: if overlay.modes.contains_key(&inner) { Reason::Inline } else { Reason::Overlay },
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
fn add_inline(file: &InlineFile, lineage: &Lineage, draft: &mut Draft) -> Result<(), TreeError> {
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
    let entry = TreeEntry {
        entry: Entry {
            uid: file.uid,
            gid: file.gid,
            ..Entry::of_root(place(path, kind == Kind::Dir, file.segment), kind, mode)
        },
        component: if is_init { "init".into() } else { "recipe".into() },
        origin: file.origin.clone(),
        reason: if is_init { Reason::Init } else { Reason::Inline },
        segment: file.segment,
    };
    let component = |origin: &Origin| Owner { component: entry.component.clone(), origin: origin.clone() };
    let (key, changed) =
        ((file.segment, entry.entry.path.clone()), file.changes.iter().map(component).collect::<Vec<_>>());
    draft.add_written(entry, lineage)?;
    if !changed.is_empty() {
        let owners = draft.tree.gave_way.entry(key).or_default();
        owners.extend(changed);
        owners.sort_by_key(|owner| std::cmp::Reverse(lineage.order(&owner.origin)));
    }
    Ok(())
}
