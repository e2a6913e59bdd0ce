//! Modules: pinned by version and checksum, and brought into Go's module cache.

use super::super::{Pin, SourceError};
use super::gomod::{GoMod, read_go_mod};
use super::toolchain::{Toolchain, at_least};
use crate::entry::Sha256;
use crate::fetch::{Context, FetchError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Lock and fetch.
pub struct Modules<'a> {
    /// At least one. Any of them brings modules.
    pub toolchains: &'a [Toolchain],
    pub cx: &'a Context<'a>,
}

/// One answer of `go mod download -json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Downloaded {
    pub path: String,
    pub version: String,
    #[serde(default)]
    pub error: String,
    /// The downloaded archive.
    #[serde(default)]
    pub zip: PathBuf,
    /// `go.mod` as the proxy serves it.
    #[serde(default)]
    pub go_mod: PathBuf,
    /// The unpacked module.
    #[serde(default)]
    pub dir: PathBuf,
    /// `h1:` and base64 of the SHA-256 over the list of the files' hashes (golang.org/x/mod/sumdb/dirhash).
    #[serde(default)]
    pub sum: String,
    #[serde(default)]
    pub go_mod_sum: String,
}

impl Modules<'_> {
    /// Pins a module, and the modules that its `go.mod` takes from folders of its own repository.
    pub fn lock_module(&self, path: &str, version: &str) -> Result<Vec<Pin>, SourceError> {
        let found = self.download(&[format!("{path}@{version}")])?.remove(0);
        let module = load_go_mod(&format!("{path} {version}"), &found.go_mod)?;
        let go = at_least(self.toolchains, &format!("{path} {version}"), &module.go)?;
        let published = published(&module, version)?;
        let wanted: Vec<String> = published.iter().map(|(path, version)| format!("{path}@{version}")).collect();
        let mut pins = vec![pin(&found)?];
        pins[0].detail.insert("toolchain".into(), go.version.clone());
        for found in self.download(&wanted)? {
            pins.push(pin(&found)?);
        }
        Ok(pins)
    }

    /// Pins a main module of our own by its files, and what its `go.mod` requires directly.
    pub fn lock_dir(&self, dir: &Path) -> Result<Vec<Pin>, SourceError> {
        let subject = dir.display().to_string();
        let module = load_go_mod(&subject, &dir.join("go.mod"))?;
        let go = at_least(self.toolchains, &subject, &module.go)?;
        let sums = load_sums(dir)?;
        let mut wanted = Vec::new();
        for require in module.requires.iter().filter(|r| !r.indirect) {
            let (path, version) = (&require.path, &require.version);
            let matches = |r: &&super::gomod::Replace| {
                r.from == *path && r.from_version.as_ref().is_none_or(|from| from == version)
            };
            let (path, version) = match module.replaces.iter().find(matches) {
                Some(replace) => (&replace.to, replace.version.as_ref().ok_or_else(|| local_replace(&subject, path))?),
                None => (path, version),
            };
            wanted.push(format!("{path}@{version}"));
        }
        let (sha256, size) = hash_dir(dir)?;
        let detail = BTreeMap::from([("toolchain".to_string(), go.version.clone())]);
        let mut pins = vec![Pin { name: module.module, version: String::new(), size, sha256, detail }];
        for found in self.download(&wanted)? {
            let listed = sums.get(&format!("{} {}", found.path, found.version));
            check_sum(&found, listed.map(String::as_str).unwrap_or_default())?;
            pins.push(pin(&found)?);
        }
        Ok(pins)
    }

    /// Brings the pinned modules into Go's cache and checks that they are the pinned ones.
    pub fn fetch(&self, pins: &[Pin]) -> Result<Vec<Downloaded>, SourceError> {
        let modules: Vec<&Pin> = pins.iter().filter(|pin| pin.detail.contains_key("sum")).collect();
        let wanted: Vec<String> = modules.iter().map(|pin| format!("{}@{}", pin.name, pin.version)).collect();
        let found = self.download(&wanted)?;
        for (pin, found) in modules.iter().zip(&found) {
            check_sum(found, &pin.detail["sum"])?;
        }
        Ok(found)
    }

    /// Brings modules, `(path, version)`, into Go's cache; verified by the checksum database as the user's settings say.
    pub fn archives(&self, wanted: &[(&str, &str)]) -> Result<Vec<Downloaded>, SourceError> {
        let wanted: Vec<String> = wanted.iter().map(|(path, version)| format!("{path}@{version}")).collect();
        self.download(&wanted)
    }

    /// `go mod download` of `path@version`s, in that order; each is verified by the checksum database as the user's
    /// settings say.
    fn download(&self, wanted: &[String]) -> Result<Vec<Downloaded>, SourceError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        // Outside of any module, so that no go.mod of the user's has a say.
        let dir = self.cx.cache.temp_dir()?;
        let mut args = vec!["mod", "download", "-json"];
        args.extend(wanted.iter().map(String::as_str));
        let task = self.cx.ui.task(&format!("go modules: {}", summary(wanted)), None);
        let go = &self.toolchains[0];
        let output = go.run(&mut go.command(dir.path(), &args))?;
        drop(task);
        let answers: Result<Vec<Downloaded>, _> =
            serde_json::Deserializer::from_str(&output.stdout).into_iter().collect();
        let Ok(answers) = answers else {
            return Err(malformed(output.stdout.lines().next().unwrap_or_default()));
        };
        if let Some(failed) = answers.iter().find(|answer| !answer.error.is_empty()) {
            return Err(explain(failed));
        }
        go.succeeded(output, "go mod download")?;
        let place = |wanted: &String| {
            let found = answers.iter().find(|a| format!("{}@{}", a.path, a.version) == *wanted).cloned();
            found.ok_or_else(|| malformed(wanted))
        };
        wanted.iter().map(place).collect()
    }
}

fn summary(wanted: &[String]) -> String {
    match wanted {
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        [] => String::new(),
    }
}

fn malformed(what: &str) -> SourceError {
    SourceError::BadInput {
        subject: "go mod download".into(),
        problem: format!("unexpected answer: {what}"),
        help: "check that `go` is Go's own command".into(),
    }
}

/// Which of our errors a failed download is. The texts are those of Go's proxy client and of version control.
pub fn explain(failed: &Downloaded) -> SourceError {
    let (name, version, cause) = (failed.path.clone(), failed.version.clone(), failed.error.clone());
    let any = |texts: &[&str]| texts.iter().any(|text| cause.contains(text));
    if any(&["GOPROXY=off"]) {
        return SourceError::Fetch(FetchError::Offline { name: format!("{name} {version}") });
    }
    if any(&["not found", "404", "410", "unknown revision", "no matching versions", "no such file", "does not exist"]) {
        return SourceError::Fetch(FetchError::Gone { name, version, place: "the Go module proxy".into() });
    }
    SourceError::Fetch(FetchError::Failed { name: format!("{name} {version}"), cause })
}

fn pin(found: &Downloaded) -> Result<Pin, SourceError> {
    let bytes = std::fs::read(&found.zip).map_err(|cause| SourceError::Io {
        action: "read",
        path: found.zip.clone(),
        cause,
    })?;
    Ok(Pin {
        name: found.path.clone(),
        version: found.version.clone(),
        size: bytes.len() as u64,
        sha256: Sha256::of(&bytes),
        detail: BTreeMap::from([("sum".to_string(), found.sum.clone())]),
    })
}

/// Compares a module's checksum with the expected `h1:...`. The archive's own bytes may differ from one proxy to
/// another, the checksum is over the files in it.
fn check_sum(found: &Downloaded, expected: &str) -> Result<(), SourceError> {
    if found.sum == expected {
        return Ok(());
    }
    let name = format!("{} {}", found.path, found.version);
    match (parse_sum(expected), parse_sum(&found.sum)) {
        (Some(expected), Some(got)) => Err(SourceError::Fetch(FetchError::WrongHash { name, expected, got })),
        _ => Err(SourceError::BadInput {
            subject: name,
            problem: format!("has no checksum to compare with `{}`", found.sum),
            help: "run `go mod tidy` in the folder, or renew the lock".into(),
        }),
    }
}

fn parse_sum(sum: &str) -> Option<Sha256> {
    let bytes = BASE64.decode(sum.strip_prefix("h1:")?).ok()?;
    Some(Sha256(bytes.try_into().ok()?))
}

pub fn load_go_mod(subject: &str, path: &Path) -> Result<GoMod, SourceError> {
    let text =
        std::fs::read_to_string(path).map_err(|cause| SourceError::Io { action: "read", path: path.into(), cause })?;
    read_go_mod(subject, &text)
}

/// `path version` -> checksum of the lines of a `go.sum`; those of `go.mod` files have `version/go.mod`.
fn load_sums(dir: &Path) -> Result<BTreeMap<String, String>, SourceError> {
    let path = dir.join("go.sum");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        // A module without requirements has none.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(cause) => return Err(SourceError::Io { action: "read", path, cause }),
    };
    Ok(text.lines().filter_map(|line| line.rsplit_once(' ')).map(|(k, v)| (k.into(), v.into())).collect())
}

fn local_replace(subject: &str, path: &str) -> SourceError {
    SourceError::BadInput {
        subject: subject.into(),
        problem: format!("go.mod replaces `{path}` by a folder, which the lock cannot pin"),
        help: "require a published version, or `replace` it by one".into(),
    }
}

/// The modules that a `go.mod` takes from folders of its own repository, which a module archive does not hold, with
/// the versions under which they are published: the version that is required, or, for those required as `v0.0.0`
/// (Kubernetes' staging modules), `v0.MINOR.PATCH` of the module's own version.
pub fn published(module: &GoMod, version: &str) -> Result<Vec<(String, String)>, SourceError> {
    let mut out = Vec::new();
    for replace in module.replaces.iter().filter(|r| r.version.is_none()) {
        let Some(required) = module.requires.iter().find(|r| r.path == replace.from) else { continue };
        let version = match required.version.as_str() {
            "v0.0.0" => staging_version(version).ok_or_else(|| local_replace(&module.module, &replace.from))?,
            published => published.into(),
        };
        out.push((replace.from.clone(), version));
    }
    Ok(out)
}

/// `v1.36.3` -> `v0.36.3`.
fn staging_version(version: &str) -> Option<String> {
    let (major, rest) = version.strip_prefix('v')?.split_once('.')?;
    (major.parse::<u32>().is_ok() && rest.contains('.')).then(|| format!("v0.{rest}"))
}

/// Whether the files of a folder are the pinned ones. Its own pin is the one without a version.
pub fn is_pinned(dir: &Path, pins: &[Pin]) -> Result<bool, SourceError> {
    let (sha256, _) = hash_dir(dir)?;
    Ok(pins.iter().any(|pin| pin.version.is_empty() && pin.sha256 == sha256))
}

/// SHA-256 over the sorted list of `<sha256>  <path>` of all files, and the sum of their sizes in bytes.
pub fn hash_dir(dir: &Path) -> Result<(Sha256, u64), SourceError> {
    let (mut list, mut size) = (String::new(), 0);
    for (name, path) in files_of(dir)? {
        let bytes = std::fs::read(&path).map_err(|cause| SourceError::Io { action: "read", path, cause })?;
        size += bytes.len() as u64;
        list += &format!("{}  {name}\n", Sha256::of(&bytes));
    }
    Ok((Sha256::of(list.as_bytes()), size))
}

/// The files of a main module: path below `dir`, and where they are; sorted. Names that start with a dot are left out.
pub fn files_of(dir: &Path) -> Result<Vec<(String, PathBuf)>, SourceError> {
    let visible = |e: &walkdir::DirEntry| e.depth() == 0 || !e.file_name().as_encoded_bytes().starts_with(b".");
    let mut out = Vec::new();
    for found in walkdir::WalkDir::new(dir).into_iter().filter_entry(visible) {
        let found = found.map_err(|e| SourceError::Io { action: "read", path: dir.into(), cause: e.into() })?;
        if found.file_type().is_dir() {
            continue;
        }
        let name = found.path().strip_prefix(dir).expect("the walk stays below its root");
        match name.to_str().filter(|_| found.file_type().is_file()) {
            Some(name) => out.push((name.to_string(), found.path().to_path_buf())),
            None => {
                return Err(SourceError::BadInput {
                    subject: found.path().display().to_string(),
                    problem: "is no plain file with a UTF-8 name".into(),
                    help: "keep just source files in the folder of a Go program".into(),
                });
            }
        }
    }
    out.sort();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::gomod::parse_go_mod;
    use super::*;

    #[test]
    fn folders_of_the_repository_have_published_versions() {
        let text = "module k8s.io/kubernetes\nrequire k8s.io/api v0.0.0\nrequire etcd/api v3.6.6\n\
            replace k8s.io/api => ./staging/api\nreplace etcd/api => ../api\nreplace unused => ./unused\n\
            replace fork => other/fork v1.0.0\n";
        let module = parse_go_mod(text).unwrap();
        let found = published(&module, "v1.36.3").unwrap();
        assert_eq!(found, [("k8s.io/api".into(), "v0.36.3".into()), ("etcd/api".into(), "v3.6.6".into())]);
        assert_eq!(published(&module, "v1.37.0-rc.1").unwrap()[0].1, "v0.37.0-rc.1");
        assert!(published(&module, "main").unwrap_err().to_string().contains("`k8s.io/api` by a folder"));
    }

    #[test]
    fn checksums_are_sha256() {
        let sum = format!("h1:{}", BASE64.encode([7; 32]));
        assert_eq!(parse_sum(&sum), Some(Sha256([7; 32])));
        assert_eq!(parse_sum("h1:AAAA"), None);
        assert_eq!(parse_sum("h2:"), None);
    }
}
