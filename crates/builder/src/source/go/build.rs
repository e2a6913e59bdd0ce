//! Runs `go build`, and reads what the programs say of their modules.

use super::super::SourceError;
use super::licences;
use super::toolchain::Toolchain;
use super::workspace::{Workspace, make_dir, write};
use crate::entry::Sha256;
use crate::fetch::Context;
use crate::licence::Licence;
use crate::recipe::GoSpec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const INDEX: &str = "built.json";

/// What a build left: programs beside this index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Built {
    pub programs: Vec<Program>,
    /// All modules that code in the programs comes from, and the standard library; sorted.
    pub modules: Vec<Module>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// As the spec names it.
    pub package: String,
    /// Name of the file beside the index.
    pub file: String,
    pub sha256: Sha256,
    /// Bytes.
    pub size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Module {
    pub path: String,
    pub version: String,
    /// Of what is compiled in; `None` where no file tells.
    pub licence: Option<Licence>,
}

impl Built {
    pub fn load(dir: &Path) -> Result<Self, SourceError> {
        let path = dir.join(INDEX);
        let damaged = |problem: String| crate::cache::CacheError::Damaged { path: dir.into(), problem };
        let bytes = std::fs::read(&path).map_err(|cause| SourceError::Io { action: "read", path, cause })?;
        Ok(serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?)
    }
}

/// Builds all packages of the spec into a folder of the workspace and returns it.
pub fn build(spec: &GoSpec, workspace: &Workspace, go: &Toolchain, cx: &Context<'_>) -> Result<PathBuf, SourceError> {
    let out = workspace.root.path().join("out");
    make_dir(&out)?;
    let (mut programs, mut modules) = (Vec::new(), BTreeSet::new());
    for (number, package) in spec.packages.keys().enumerate() {
        let file = format!("program-{number}");
        let path = out.join(&file);
        run_build(spec, package, &path, workspace, go, cx)?;
        let bytes =
            std::fs::read(&path).map_err(|cause| SourceError::Io { action: "read", path: path.clone(), cause })?;
        let (sha256, size) = (Sha256::of(&bytes), bytes.len() as u64);
        programs.push(Program { package: package.clone(), file, sha256, size });
        let output = go.run(&mut go.command(&out, &["version", "-m", &path.to_string_lossy()]))?;
        modules.extend(parse_build_info(&go.succeeded(output, "go version -m")?));
    }
    let mut modules: Vec<Module> = modules.into_iter().collect();
    licences::fill_in(&mut modules, spec, workspace, go)?;
    let built = Built { programs, modules };
    write(&out.join(INDEX), serde_json::to_vec(&built).expect("it is plain data"))?;
    Ok(out)
}

/// What `go list -deps` tells of the packages that a build compiles, as JSON documents; it brings all modules that they are in, and
/// compiles nothing.
pub fn list_packages(spec: &GoSpec, workspace: &Workspace, go: &Toolchain) -> Result<String, SourceError> {
    let tags = format!("-tags={}", spec.tags.join(","));
    let mut args = vec!["list", "-deps", "-json=Dir,Standard,Module", &tags];
    args.extend(workspace.args.iter().map(String::as_str));
    args.push("--");
    args.extend(spec.packages.keys().map(String::as_str));
    let output = go.run(&mut go.command(&workspace.module(), &args))?;
    go.succeeded(output, "go list -deps")
}

fn run_build(
    spec: &GoSpec,
    package: &str,
    to: &Path,
    workspace: &Workspace,
    go: &Toolchain,
    cx: &Context<'_>,
) -> Result<(), SourceError> {
    let jobs = format!("-p={}", cx.settings.jobs.max(1));
    let tags = format!("-tags={}", spec.tags.join(","));
    let to = format!("-o={}", to.display());
    let mut args = vec!["build", "-trimpath", &jobs, &tags, &to];
    let ldflags = format!("-ldflags={}", spec.ldflags);
    let gcflags: Vec<String> = spec.gcflags.iter().map(|flags| format!("-gcflags={flags}")).collect();
    // An empty value is a value: it would take a user's default away, but we have none.
    args.extend((!spec.ldflags.is_empty()).then_some(ldflags.as_str()));
    args.extend(gcflags.iter().map(String::as_str));
    args.extend(workspace.args.iter().map(String::as_str));
    args.extend(["--", package]);
    cx.ui.detail(format_args!("go {}", args.join(" ")));
    let output = go.run(&mut go.command(&workspace.module(), &args))?;
    go.succeeded(output, &format!("go build {package}")).map(drop)
}

/// The modules in the output of `go version -m` of one program: lines of `dep`, path, version, checksum, each perhaps
/// followed by `=>` with what replaces it. A replacement that is a folder has no version: the module's own is kept.
fn parse_build_info(text: &str) -> Vec<Module> {
    let mut out: Vec<Module> = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.trim_start_matches('\t').split('\t').collect();
        let module = |path: &str, version: &str| Module { path: path.into(), version: version.into(), licence: None };
        match fields.as_slice() {
            ["dep", path, version, ..] => out.push(module(path, version)),
            ["=>", path, version, ..] if version.starts_with('v') => {
                out.pop();
                out.push(module(path, version));
            }
            [first, ..] if !line.starts_with('\t') => {
                let version = first.rsplit(": go").next().unwrap_or_default();
                out.push(module("std", version));
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_a_program() {
        let text = "/tmp/x: go1.26.8\n\tpath\tbootwright/build\n\tmod\tbootwright/build\t(devel)\t\n\
            \tdep\tgithub.com/a/b\tv1.2.3\th1:aaa=\n\tdep\tk8s.io/api\tv0.0.0\n\t=>\tk8s.io/api\tv0.36.3\th1:bbb=\n\
            \tdep\tc/d\tv1.9.1\n\t=>\t./edited/c/d\t(devel)\t\n\tbuild\t-compiler=gc\n";
        let found: Vec<_> = parse_build_info(text).into_iter().map(|m| format!("{} {}", m.path, m.version)).collect();
        assert_eq!(found, ["std 1.26.8", "github.com/a/b v1.2.3", "k8s.io/api v0.36.3", "c/d v1.9.1"]);
    }
}
