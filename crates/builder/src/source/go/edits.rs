//! Edits of other people's source files for one build.
//!
//! A file of the standard library is laid over by `go build -overlay`. Go refuses that for files of its module cache:
//! a module is copied into the workspace and takes its own place by a `replace` line. Test files are left out of the
//! copy: their package clauses would have to be edited too.

use super::super::SourceError;
use super::toolchain::Toolchain;
use super::workspace::{Workspace, copy_files, write};
use crate::recipe::{Edit, GoSpec};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What `go list` says of a package.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Package {
    dir: PathBuf,
    #[serde(default)]
    standard: bool,
    module: Option<Module>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Module {
    path: String,
    #[serde(default)]
    dir: PathBuf,
}

impl Workspace {
    /// Applies the edits of the spec in their order.
    pub fn apply_edits(&mut self, spec: &GoSpec, go: &Toolchain) -> Result<(), SourceError> {
        let mut packages = BTreeMap::new();
        let mut overlay = BTreeMap::new();
        let mut copied = BTreeSet::new();
        for edit in &spec.edits {
            let (import_path, name) = edit.file.rsplit_once('/').ok_or_else(|| not_found(edit))?;
            if !packages.contains_key(import_path) {
                packages.insert(import_path, self.list(import_path, go)?);
            }
            let package = &packages[import_path];
            let original = package.dir.join(name);
            let edited = match &package.module {
                None if package.standard => {
                    let edited = overlay
                        .entry(original.clone())
                        .or_insert(self.root.path().join(format!("std{}", edit.file.replace('/', "_"))));
                    if !edited.exists() {
                        write(edited, load(&original, edit)?)?;
                    }
                    edited.clone()
                }
                Some(module) => {
                    let below = original.strip_prefix(&module.dir).map_err(|_| not_found(edit))?;
                    if copied.insert(module.path.clone()) {
                        self.copy_module(module, go)?;
                    }
                    self.module().join(format!("edited/{}", module.path)).join(below)
                }
                None => return Err(not_found(edit)),
            };
            let text = apply(&load(&edited, edit)?, edit)?;
            write(&edited, text)?;
        }
        self.use_overlay(&overlay)
    }

    fn list(&self, import_path: &str, go: &Toolchain) -> Result<Package, SourceError> {
        let args = ["list", "-mod=readonly", "-find", "-json=Dir,Standard,Module", "--", import_path];
        let output = go.run(&mut go.command(&self.module(), &args))?;
        let text = go.succeeded(output, &format!("go list {import_path}"))?;
        serde_json::from_str(&text).map_err(|cause| SourceError::BadInput {
            subject: format!("go list {import_path}"),
            problem: format!("unexpected answer: {cause}"),
            help: "check that `go` is Go's own command".into(),
        })
    }

    /// The copy's place is relative, because it is written into the program.
    fn copy_module(&self, module: &Module, go: &Toolchain) -> Result<(), SourceError> {
        let place = format!("edited/{}", module.path);
        copy_files(&module.dir, &self.module().join(&place), |name| !name.ends_with("_test.go"))?;
        let replace = format!("-replace={}=./{place}", module.path);
        let output = go.run(&mut go.command(&self.module(), &["mod", "edit", &replace]))?;
        go.succeeded(output, "go mod edit").map(drop)
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

fn load(path: &Path, edit: &Edit) -> Result<String, SourceError> {
    std::fs::read_to_string(path).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::NotFound => not_found(edit),
        _ => SourceError::Io { action: "read", path: path.into(), cause },
    })
}

fn not_found(edit: &Edit) -> SourceError {
    SourceError::BadInput {
        subject: edit.file.clone(),
        problem: "an edit names it, but there is no such file in the build".into(),
        help: "`file` is a package's import path, a `/` and the name of one of its files".into(),
    }
}

/// The text with the edit made.
fn apply(text: &str, edit: &Edit) -> Result<String, SourceError> {
    match text.matches(&edit.find).count() {
        1 if !edit.find.is_empty() => Ok(text.replacen(&edit.find, &edit.replace, 1)),
        times => Err(SourceError::BadInput {
            subject: edit.file.clone(),
            problem: format!("the text to edit must be there once, found {times} times: `{}`", edit.find),
            help: "look at the file in the version that is built, and correct the edit's `find`".into(),
        }),
    }
}
