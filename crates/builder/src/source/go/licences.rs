//! Licences of what programs are compiled from: of each module the licence files of the folders whose packages are in a program,
//! and of the folders above those, up to the module's own.

use super::super::SourceError;
use super::build::{Module, list_packages};
use super::toolchain::Toolchain;
use super::workspace::Workspace;
use crate::licence::{Licence, recognise};
use crate::recipe::GoSpec;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What `go list -deps -json` says of a package (`go help list`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedPackage {
    #[serde(default)]
    dir: PathBuf,
    #[serde(default)]
    standard: bool,
    module: Option<ListedModule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedModule {
    path: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    dir: PathBuf,
    replace: Option<Replacement>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Replacement {
    path: String,
    #[serde(default)]
    version: String,
}

/// Folders of packages that are compiled in, by the module's path and version; those of the standard library are `std`.
type Compiled = BTreeMap<(String, String), (PathBuf, BTreeSet<PathBuf>)>;

/// Fills in the licences of `modules`.
pub fn fill_in(
    modules: &mut [Module],
    spec: &GoSpec,
    workspace: &Workspace,
    go: &Toolchain,
) -> Result<(), SourceError> {
    let compiled = list_compiled(spec, workspace, go)?;
    for module in modules {
        let is_std = module.path == super::patches::STD;
        let version = if is_std { String::new() } else { module.version.clone() };
        if let Some((root, dirs)) = compiled.get(&(module.path.clone(), version)) {
            module.licence = licence_of(&module.path, root, dirs)?;
        }
    }
    Ok(())
}

fn list_compiled(spec: &GoSpec, workspace: &Workspace, go: &Toolchain) -> Result<Compiled, SourceError> {
    let text = list_packages(spec, workspace, go)?;
    let goroot = go.std_sources()?;
    let goroot = goroot.parent().unwrap_or(&goroot);
    let mut compiled = Compiled::new();
    for package in serde_json::Deserializer::from_str(&text).into_iter::<ListedPackage>() {
        let package = package.map_err(|cause| SourceError::BadInput {
            subject: "go list -deps".into(),
            problem: format!("unexpected answer: {cause}"),
            help: "check that `go` is Go's own command".into(),
        })?;
        let (name, root) = match package.module {
            _ if package.standard => ((super::patches::STD.into(), String::new()), goroot.to_path_buf()),
            Some(ListedModule { path, version, dir, replace }) => match replace {
                // A copy in a folder is the module itself, with patches.
                Some(other) if !other.version.is_empty() => ((other.path, other.version), dir),
                _ => ((path, version), dir),
            },
            None => continue,
        };
        compiled.entry(name).or_insert_with(|| (root, BTreeSet::new())).1.insert(package.dir);
    }
    Ok(compiled)
}

fn licence_of(module: &str, root: &Path, dirs: &BTreeSet<PathBuf>) -> Result<Option<Licence>, SourceError> {
    let above = |dir: &PathBuf| -> Vec<PathBuf> {
        dir.ancestors().take_while(|dir| dir.starts_with(root)).map(Path::to_path_buf).collect()
    };
    let folders: BTreeSet<PathBuf> = dirs.iter().flat_map(above).collect();
    let (mut licences, mut notices) = (BTreeMap::new(), BTreeSet::new());
    for folder in folders {
        let failed = |cause| SourceError::Io { action: "list", path: folder.clone(), cause };
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(kind) = kind_of(&path.file_name().unwrap_or_default().to_string_lossy()) else { continue };
            if !path.is_file() {
                continue;
            }
            let bytes =
                std::fs::read(&path).map_err(|cause| SourceError::Io { action: "read", path: path.clone(), cause })?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            match kind {
                Kind::Notice => drop(notices.insert(text)),
                // Modules hold the same text in many folders.
                Kind::Licence => drop(licences.entry(text.clone()).or_insert_with(|| recognise(module, &text))),
            }
        }
    }
    let licence = Licence::all(licences.into_values());
    Ok(licence.map(|licence| Licence { notices, ..licence }))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Licence,
    Notice,
}

/// What a file is by its name: those that <https://pkg.go.dev/license-policy> looks for, and notices.
fn kind_of(name: &str) -> Option<Kind> {
    let name = name.to_ascii_uppercase();
    let (stem, end) = name.split_at(name.find(['.', '-', '_']).unwrap_or(name.len()));
    // Code about licences, and licences of documents, which no program holds.
    if [".GO", ".JSON", ".DOCS"].iter().any(|other| end.ends_with(other)) {
        return None;
    }
    match stem {
        "LICENSE" | "LICENCE" | "LICENSES" | "LICENCES" | "UNLICENSE" | "COPYING" | "COPYRIGHT" | "MIT" => {
            Some(Kind::Licence)
        }
        "NOTICE" | "NOTICES" => Some(Kind::Notice),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_licence_files() {
        for name in ["LICENSE", "License.txt", "LICENCE.md", "COPYING", "LICENSE-APACHE", "LICENSE.libyaml"] {
            assert_eq!(kind_of(name), Some(Kind::Licence), "{name}");
        }
        for name in ["NOTICE", "NOTICE.txt", "notices.md"] {
            assert_eq!(kind_of(name), Some(Kind::Notice), "{name}");
        }
        for name in ["license.go", "license_test.go", "LICENSE.json", "LICENSE.docs", "licensed", "README", ""] {
            assert_eq!(kind_of(name), None, "{name}");
        }
    }

    #[test]
    fn folders_that_are_not_compiled_in_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("LICENSE", "SPDX-License-Identifier: MIT");
        write("NOTICE", "by us");
        write("used/LICENSE", "SPDX-License-Identifier: ISC");
        write("used/LICENSES/other", "");
        write("unused/LICENSE", "SPDX-License-Identifier: GPL-3.0-only");
        let compiled = BTreeSet::from([dir.path().join("used/deep")]);
        std::fs::create_dir(dir.path().join("used/deep")).unwrap();
        let found = licence_of("m", dir.path(), &compiled).unwrap().unwrap();
        assert_eq!(found, Licence { notices: ["by us".to_string()].into(), ..Licence::known("ISC AND MIT") });
        assert_eq!(licence_of("m", &dir.path().join("used/deep"), &compiled).unwrap(), None);
    }
}
