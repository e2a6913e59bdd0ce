//! Patches of other people's modules for one build.
//!
//! A patch is a file: a header that says why it is there, then a unified diff (diff(1), "Detailed Unified") of files of one
//! module. The header's fields are those of Debian's patch tagging guidelines (DEP-3), and two of ours:
//!
//! - `Module`: the module path, or `std` for Go's standard library;
//! - `Description`: what it changes, and why; lines that follow begin with a space;
//! - `Forwarded`: where upstream has or would take it, or `not-needed`;
//! - `Guard`: what notices when it is wrong.
//!
//! A file of the standard library is laid over by `go build -overlay`. Go refuses that for files of its module cache:
//! a module is copied into the workspace and takes its own place by a `replace` line. Test files are left out of the
//! copy: they may belong to a package whose name a patch changes.

use super::super::{PatchFacts, SourceError};
use super::modules::{Downloaded, explain};
use super::toolchain::Toolchain;
use super::workspace::{Workspace, copy_files, make_dir, write};
use crate::entry::{Sha256, parse_entry_path};
use diffy::patch_set::{FileOperation, ParseOptions, PatchSet};
use diffy::{Line, Patch as Diff};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// As `go version -m` and the SBOM call it.
pub const STD: &str = "std";

/// A patch file.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchFile {
    /// Its diff is all that decides a build: without the header.
    pub facts: PatchFacts,
}

/// Where a module's files are, and where they are patched.
struct Tree {
    original: PathBuf,
    copy: PathBuf,
}

/// The patches at these places, each a file or a folder whose `*.patch` come by name.
///
/// # Errors
/// [`SourceError::Io`] and [`SourceError::BadInput`] for a file without its header or its diff.
pub fn load(places: &[PathBuf], recipe_dir: &Path) -> Result<Vec<PatchFile>, SourceError> {
    let mut found = Vec::new();
    for place in places {
        let path = recipe_dir.join(place);
        let mut files = vec![path.clone()];
        if path.is_dir() {
            let failed = |cause| SourceError::Io { action: "list", path: path.clone(), cause };
            let entries = std::fs::read_dir(&path).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
            files = entries.iter().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "patch")).collect();
            files.sort();
            if files.is_empty() {
                return Err(refused(place.display().to_string(), "the folder holds no `*.patch`"));
            }
        }
        for file in files {
            let text = crate::input_file::read_text(&file).map_err(|cause| SourceError::Io {
                action: "read",
                path: file.clone(),
                cause,
            })?;
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let header_end = text.match_indices('\n').map(|(at, _)| at + 1).find(|at| starts_diff(&text[*at..]));
            let (header, diff) = text.split_at(header_end.unwrap_or(text.len()));
            let sha256 = Sha256::of(text.as_bytes());
            found.push(PatchFile { facts: parse_header(name, header, diff.into(), sha256)? });
        }
    }
    Ok(found)
}

fn starts_diff(text: &str) -> bool {
    text.starts_with("--- ") || text.starts_with("diff ")
}

fn parse_header(name: String, text: &str, diff: String, sha256: Sha256) -> Result<PatchFacts, SourceError> {
    let mut fields: BTreeMap<&str, String> = BTreeMap::new();
    let mut last = "";
    for line in text.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some(value) = fields.get_mut(last) {
                *value += &format!(" {}", line.trim());
            }
        } else if let Some((key, value)) = line.split_once(':') {
            last = key;
            fields.insert(key, value.trim().to_string());
        }
    }
    let mut take = |key: &str| {
        let missing = || refused(name.clone(), &format!("its header has no `{key}:`"));
        fields.remove(key).filter(|value| !value.is_empty()).ok_or_else(missing)
    };
    Ok(PatchFacts {
        module: take("Module")?,
        description: take("Description")?,
        forwarded: take("Forwarded")?,
        guard: take("Guard")?,
        sha256,
        name,
        diff,
    })
}

fn refused(subject: String, problem: &str) -> SourceError {
    let help = "a patch is a header with `Module:`, `Description:`, `Forwarded:` and `Guard:`, then a unified diff of files \
                of that module, `a/` and `b/` before their paths; see docs/recipes.md";
    SourceError::BadInput { subject, problem: problem.into(), help: help.into() }
}

impl PatchFile {
    /// Two patches with the same key give the same programs.
    pub fn key(&self) -> (&str, Sha256) {
        (&self.facts.module, Sha256::of(self.facts.diff.as_bytes()))
    }
}

impl Workspace {
    /// Applies patches in their order.
    ///
    /// # Errors
    /// [`SourceError::BadInput`] for a patch that does not fit line by line where it says.
    pub fn apply_patches(&mut self, patches: &[PatchFile], go: &Toolchain) -> Result<(), SourceError> {
        let mut trees: BTreeMap<&str, Tree> = BTreeMap::new();
        let mut overlay = BTreeMap::new();
        for patch in patches {
            let PatchFacts { name, module, .. } = &patch.facts;
            let is_std = module == STD;
            if !is_below(module) {
                return Err(refused(name.clone(), &format!("`{module}` is no module")));
            }
            if !trees.contains_key(module.as_str()) {
                trees.insert(module, if is_std { self.std_tree(go)? } else { self.module_tree(module, name, go)? });
            }
            let Tree { original, copy } = &trees[module.as_str()];
            for file in PatchSet::parse(&patch.facts.diff, ParseOptions::unidiff()) {
                let file = file.map_err(|e| refused(name.clone(), &format!("its diff cannot be read: {e}")))?;
                let path = changed_file(&file.operation().strip_prefix(1))
                    .ok_or_else(|| refused(name.clone(), "it does more than change lines of files that are there"))?;
                if !is_below(&path) {
                    return Err(refused(name.clone(), &format!("`{path}` is no path of a file in a module")));
                }
                let diff = file.patch().as_text().ok_or_else(|| refused(name.clone(), "it changes a binary file"))?;
                // Modules are copied whole, of the standard library what is patched.
                let mut patched = copy.join(&path);
                let mut current = patched.clone();
                if is_std {
                    patched = copy.join(path.replace('/', "_"));
                    current = if patched.exists() { patched.clone() } else { original.join(&path) };
                    overlay.insert(original.join(&path), patched.clone());
                }
                let text = std::fs::read_to_string(&current).map_err(|cause| match cause.kind() {
                    std::io::ErrorKind::NotFound => {
                        refused(name.clone(), &format!("module `{module}` has no file `{path}`"))
                    }
                    _ => SourceError::Io { action: "read", path: current.clone(), cause },
                })?;
                write(&patched, apply(&text, diff, name, &path)?)?;
            }
        }
        self.use_overlay(&overlay)
    }

    fn std_tree(&self, go: &Toolchain) -> Result<Tree, SourceError> {
        let copy = self.root.path().join(STD);
        make_dir(&copy)?;
        Ok(Tree { original: go.std_sources()?, copy })
    }

    /// The copy's place is written into the program, and therefore relative to where `go` runs.
    fn module_tree(&self, module: &str, patch: &str, go: &Toolchain) -> Result<Tree, SourceError> {
        let place = format!("patched/{module}");
        let tree = Tree { original: self.module_dir(module, patch, go)?, copy: self.module().join(&place) };
        copy_files(&tree.original, &tree.copy, |name| !name.ends_with("_test.go"))?;
        let replace = format!("-replace={module}=./{place}");
        let output = go.run(&mut go.command(&self.module(), &["mod", "edit", &replace]))?;
        go.succeeded(output, "go mod edit")?;
        Ok(tree)
    }

    /// Has `go` bring a module that the build needs, of the version that it needs; where the module cache holds it.
    fn module_dir(&self, module: &str, patch: &str, go: &Toolchain) -> Result<PathBuf, SourceError> {
        let output = go.run(&mut go.command(&self.module(), &["mod", "download", "-json", "--", module]))?;
        // Of a module that the build does not need it knows no version.
        let found: Downloaded = serde_json::from_str(&output.stdout)
            .map_err(|_| refused(patch.into(), &format!("module `{module}` is not part of the build")))?;
        if found.error.is_empty() { Ok(found.dir) } else { Err(explain(&found)) }
    }

    fn use_overlay(&mut self, files: &BTreeMap<PathBuf, PathBuf>) -> Result<(), SourceError> {
        if files.is_empty() {
            return Ok(());
        }
        let path = self.root.path().join("overlay.json");
        write(&path, serde_json::json!({ "Replace": files }).to_string())?;
        self.args.push(format!("-overlay={}", path.display()));
        Ok(())
    }
}

/// The path of a file that a diff changes in place, without `a/`.
fn changed_file(operation: &FileOperation<'_, str>) -> Option<String> {
    match operation {
        FileOperation::Modify { original, modified } if original == modified => Some(original.to_string()),
        _ => None,
    }
}

/// A path that leads nowhere else than below the folder that it is joined to.
fn is_below(path: &str) -> bool {
    parse_entry_path(path).is_ok_and(|parsed| parsed == path && !parsed.is_empty())
}

/// The text with a diff applied, each part of it exactly at its line.
fn apply(text: &str, diff: &Diff<'_, str>, name: &str, path: &str) -> Result<String, SourceError> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for hunk in diff.hunks() {
        let old = hunk.lines().iter().filter_map(|line| match line {
            Line::Context(text) | Line::Delete(text) => Some(*text),
            Line::Insert(_) => None,
        });
        // An empty part of the old file is named by the line before it.
        let at = hunk.old_range().start().saturating_sub(usize::from(!hunk.old_range().is_empty()));
        for (number, expected) in old.enumerate() {
            let found = lines.get(at + number).copied();
            if found != Some(expected) {
                return Err(SourceError::BadInput {
                    subject: name.into(),
                    problem: format!(
                        "it does not fit `{path}`: line {} is {}, expected `{}`",
                        at + number + 1,
                        found.map_or("not there".into(), |line| format!("`{}`", line.trim_end())),
                        expected.trim_end(),
                    ),
                    help:
                        "the module is another version than the patch was made for: make it anew, and read what changed"
                            .into(),
                });
            }
        }
    }
    diffy::apply(text, diff).map_err(|e| refused(name.into(), &format!("it does not fit `{path}`: {e}")))
}
