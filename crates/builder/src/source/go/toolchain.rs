//! The `go` command: where it is, how old it is, and how it is called.

use super::super::SourceError;
use crate::fetch::FetchError;
use crate::interrupt::ProcessGroup;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the archive from Go's own site is unpacked by its instructions.
const USUAL_GO: &str = "/usr/local/go/bin/go";
/// Where `scripts/setup.sh` puts the version that our locks pin, below the user's data folder.
const OWN_GO: &str = "bootwright/go/bin/go";
/// How one more version comes to a machine.
const INSTALL: &str = "`scripts/setup.sh image` of bootwright's own checkout, or Go's archive (https://go.dev/dl/) under /usr/local/go; \
    it may stand beside others";
/// Lines of a failed command that an error shows.
const SHOWN_LINES: usize = 20;

/// An installed Go.
#[derive(Debug, Clone)]
pub struct Toolchain {
    pub go: PathBuf,
    /// As it calls itself: `go1.26.8`.
    pub version: String,
    pub offline: bool,
    /// Where modules come from and how they are verified, as the user has set it (`go help environment`).
    pub origins: Vec<(String, String)>,
    /// Archives of modules that this machine fetched before, for whatever build, as an address for GOPROXY.
    pub archives: Option<String>,
    /// Folder of the caches that only our builds use.
    pub caches: Option<PathBuf>,
    /// Further environment of each call.
    pub env: Vec<(String, String)>,
}

/// The user's settings that stay.
const ORIGINS: [&str; 8] =
    ["GOPROXY", "GONOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOINSECURE", "GOVCS", "GOAUTH"];

/// What a finished command left.
#[derive(Debug)]
pub struct Output {
    pub success: bool,
    pub status: String,
    pub stdout: String,
    pub stderr: String,
}

impl Toolchain {
    /// Every `go` of this machine with its version, in the order in which they are tried: those on PATH, then ours, then
    /// the usual place.
    ///
    /// # Errors
    /// [`SourceError::MissingTool`], with `needed_for` in its text.
    pub fn find_all(needed_for: &str, offline: bool) -> Result<Vec<Self>, SourceError> {
        Self::find_in(places(), needed_for, offline)
    }

    /// [`Toolchain::find_all`] among those paths. One that cannot say its version is none.
    pub(super) fn find_in(
        places: impl IntoIterator<Item = PathBuf>,
        needed_for: &str,
        offline: bool,
    ) -> Result<Vec<Self>, SourceError> {
        let mut failure = SourceError::MissingTool {
            tool: "go".into(),
            needed_for: needed_for.into(),
            install: format!("install Go by {INSTALL}; or take a recipe that needs none, such as `worker-prebuilt`"),
        };
        let mut found = Vec::new();
        for go in places.into_iter().filter(|go| go.is_file()) {
            let (origins, archives, caches, env) = (Vec::new(), None, None, Vec::new());
            match (Self { go, version: String::new(), offline, origins, archives, caches, env }).with_settings() {
                Ok(go) => found.push(go),
                Err(e) => failure = e,
            }
        }
        if found.is_empty() { Err(failure) } else { Ok(found) }
    }

    /// Asks for the version, and for the user's settings with those of `go env -w`.
    fn with_settings(mut self) -> Result<Self, SourceError> {
        let mut command = Command::new(&self.go);
        // Any other toolchain that a go.mod or the user's settings name is not this one.
        command.env("GOTOOLCHAIN", "local").env_remove("GOROOT").current_dir("/").stdin(Stdio::null());
        // Nor do settings matter that it would refuse to start with.
        command.env("GOEXPERIMENT", "none").env("GOFLAGS", "-buildvcs=false");
        let output = self.run(command.args(["env", "-json", "GOVERSION", "GOMODCACHE"]).args(ORIGINS))?;
        let text = self.succeeded(output, "go env GOVERSION")?;
        let found: BTreeMap<String, String> = serde_json::from_str(&text).map_err(|cause| SourceError::BadInput {
            subject: self.go.display().to_string(),
            problem: format!("unexpected answer to `go env`: {cause}"),
            help: "check that it is Go's own command".into(),
        })?;
        let value = |name: &str| found.get(name).cloned().unwrap_or_default();
        self.version = value("GOVERSION");
        self.origins = ORIGINS.iter().map(|name| (name.to_string(), value(name))).collect();
        let archives = Path::new(&value("GOMODCACHE")).join("cache/download");
        self.archives = archives.is_dir().then(|| file_url(&archives));
        Ok(self)
    }

    /// With module cache and build cache below a folder of ours.
    pub fn with_caches(self, cache: &Path) -> Self {
        Self { caches: Some(cache.join("go")), ..self }
    }

    /// That takes modules only from a folder which is laid out as a module proxy serves them. They are compared with `go.sum`, and
    /// no server is asked.
    pub fn only_from(self, folder: &Path) -> Self {
        // Else the user's settings could have modules come from elsewhere.
        let origins = vec![("GONOPROXY".to_string(), "none".to_string())];
        Self { offline: true, archives: Some(file_url(folder)), origins, ..self }
    }

    /// GOMODCACHE of our builds.
    pub fn module_cache(&self) -> Result<PathBuf, SourceError> {
        let output = self.run(&mut self.command(Path::new("/"), &["env", "GOMODCACHE"]))?;
        Ok(PathBuf::from(self.succeeded(output, "go env GOMODCACHE")?.trim_end_matches('\n')))
    }

    /// Where Go itself is: GOROOT.
    pub fn root(&self) -> Result<PathBuf, SourceError> {
        let output = self.run(&mut self.command(Path::new("/"), &["env", "GOROOT"]))?;
        Ok(PathBuf::from(self.succeeded(output, "go env GOROOT")?.trim_end_matches('\n')))
    }

    /// The standard library's sources.
    pub fn std_sources(&self) -> Result<PathBuf, SourceError> {
        Ok(self.root()?.join("src"))
    }

    /// A call of `go` in `dir`, for a static linux/amd64 build that does not depend on the user's settings but for [`ORIGINS`].
    pub fn command(&self, dir: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(&self.go);
        command.args(args).current_dir(dir).stdin(Stdio::null());
        // GOROOT, GOEXPERIMENT, GODEBUG, GOCACHEPROG, ...: none of the caller's has a say, nor has the file of `go env -w`.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"GO")) {
            command.env_remove(name);
        }
        let fixed = [
            ("GOENV", "off"),
            ("GO111MODULE", "on"),
            ("GOWORK", "off"),
            // Set, because an empty value would give way to `go env -w`.
            ("GOFLAGS", "-buildvcs=false"),
            // What is installed builds; nothing is downloaded behind the user's back.
            ("GOTOOLCHAIN", "local"),
            ("CGO_ENABLED", "0"),
            ("GOOS", "linux"),
            ("GOARCH", "amd64"),
            ("GOAMD64", "v1"),
            ("GOFIPS140", "off"),
            ("LC_ALL", "C"),
        ];
        command.envs(fixed).envs(self.origins.iter().map(|(name, value)| (name, value)));
        let proxy = self.origins.iter().find(|(name, _)| name == "GOPROXY").map_or("", |(_, value)| value);
        if self.offline {
            command.env("GOSUMDB", "off");
        }
        // An archive is compared with its checksum wherever it comes from.
        let proxy = if self.offline { "off" } else { proxy };
        let places: Vec<&str> = self.archives.iter().map(String::as_str).chain([proxy]).collect();
        command.env("GOPROXY", places.join(","));
        if let Some(caches) = &self.caches {
            command.env("GOMODCACHE", caches.join("mod")).env("GOCACHE", caches.join("build"));
        }
        command.envs(self.env.iter().cloned());
        command
    }

    /// Runs to the end; a signal to this process ends it and all that it started.
    pub fn run(&self, command: &mut Command) -> Result<Output, SourceError> {
        let io = |action| move |cause| SourceError::Io { action, path: self.go.clone(), cause };
        let mut group =
            ProcessGroup::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped())).map_err(io("run"))?;
        let mut stderr = group.child().stderr.take().expect("it was piped above");
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).map(|_| bytes)
        });
        let mut stdout = Vec::new();
        let mut pipe = group.child().stdout.take().expect("it was piped above");
        pipe.read_to_end(&mut stdout).map_err(io("read from"))?;
        let stderr = reader.join().expect("reading does not panic").map_err(io("read from"))?;
        let status = group.child().wait().map_err(io("wait for"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Output {
            success: status.success(),
            status: status.to_string(),
            stdout: text(&stdout),
            stderr: text(&stderr),
        })
    }

    /// The standard output of a success; else an error with the last lines of standard error. `command` is how it
    /// is called in messages.
    pub fn succeeded(&self, output: Output, command: &str) -> Result<String, SourceError> {
        if output.success {
            return Ok(output.stdout);
        }
        let lines: Vec<&str> = output.stderr.lines().filter(|line| !line.starts_with("go: downloading ")).collect();
        let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
        Err(explain_failure(&shown, self).unwrap_or(SourceError::Command {
            command: command.into(),
            status: output.status,
            stderr: shown,
        }))
    }
}

/// RFC 8089; Go decodes what is escaped.
fn file_url(path: &Path) -> String {
    let escaped = percent_encoding::percent_encode(path.as_os_str().as_encoded_bytes(), NOT_IN_PATHS);
    format!("file://{escaped}")
}

/// All but what a path of a URL may hold (RFC 3986 section 3.3), and not the comma, which parts GOPROXY.
const NOT_IN_PATHS: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The errors of `go` that have a cause which the user can remove.
fn explain_failure(stderr: &str, go: &Toolchain) -> Option<SourceError> {
    let bad = |subject: &str, problem: &str, help: &str| {
        Some(SourceError::BadInput { subject: subject.into(), problem: problem.trim().into(), help: help.into() })
    };
    let line_with = |what: &str| stderr.lines().find(|line| line.contains(what));
    if stderr.contains("checksum mismatch") || line_with("missing go.sum entry").is_some() {
        return bad(
            "go.sum",
            stderr,
            "other code was served than the one that was pinned, or go.sum is not complete: try another GOPROXY, clear Go's \
             module cache (`go clean -modcache`), or renew go.sum if upstream really changed it",
        );
    }
    if let Some(line) = line_with("(running go") {
        return bad(
            &go.go.to_string_lossy(),
            line,
            "install the Go version that is needed; none is downloaded by itself",
        );
    }
    let offline = line_with("module lookup disabled by GOPROXY=off");
    offline.map(|line| {
        SourceError::Fetch(FetchError::Offline { name: line.split(": ").next().unwrap_or(line).trim().into() })
    })
}

/// Go versions in Go's order: `1.26` (the language) < `1.26rc1` < `1.26.0` (https://go.dev/doc/toolchain, "Go versions").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoVersion {
    major: u32,
    minor: u32,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Language,
    Beta(u32),
    Candidate(u32),
    Release(u32),
}

/// Parses `go1.26.8`, `1.26`, `1.27rc1`; what follows a blank or `-` (experiments, vendor suffix) is not looked at.
pub fn parse_go_version(text: &str) -> Option<GoVersion> {
    let text = text.strip_prefix("go").unwrap_or(text).split([' ', '-', '+']).next()?;
    let (major, rest) = text.split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (minor, rest) = rest.split_at(digits);
    let stage = if rest.is_empty() {
        Stage::Language
    } else if let Some(n) = rest.strip_prefix("beta") {
        Stage::Beta(n.parse().ok()?)
    } else if let Some(n) = rest.strip_prefix("rc") {
        Stage::Candidate(n.parse().ok()?)
    } else {
        Stage::Release(rest.strip_prefix('.')?.parse().ok()?)
    };
    Some(GoVersion { major: major.parse().ok()?, minor: minor.parse().ok()?, stage })
}

/// The first of `found` that is new enough for the `go` line of a module.
pub fn at_least<'a>(found: &'a [Toolchain], subject: &str, needed: &str) -> Result<&'a Toolchain, SourceError> {
    let least = parse_go_version(needed);
    // A development build, or a module without a `go` line: `go` itself will say.
    let fits = |go: &&Toolchain| parse_go_version(&go.version).is_none_or(|version| Some(version) >= least);
    found.iter().find(fits).ok_or_else(|| SourceError::BadInput {
        subject: subject.into(),
        problem: format!("needs go{needed}, found {}", list(found)),
        help: format!("install Go {needed} or newer, by {INSTALL}"),
    })
}

/// That of `found` which the lock pins: the toolchain decides the bytes of a program, so no other one builds it silently.
pub fn exactly<'a>(found: &'a [Toolchain], pinned: &str) -> Result<&'a Toolchain, SourceError> {
    found.iter().find(|go| go.version == pinned).ok_or_else(|| SourceError::OtherToolchain {
        pinned: pinned.into(),
        found: list(found),
        install: INSTALL,
    })
}

/// `go1.26.8 at `/usr/bin/go``, ...
fn list(found: &[Toolchain]) -> String {
    let named: Vec<String> = found.iter().map(|go| format!("{} at `{}`", go.version, go.go.display())).collect();
    named.join(", ")
}

/// Where a `go` may be, each place once.
fn places() -> Vec<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let path = var("PATH").unwrap_or_default();
    let data = var("XDG_DATA_HOME").map(PathBuf::from);
    let data = data.or_else(|| var("HOME").map(|home| Path::new(&home).join(".local/share")));
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("go"));
    let mut places = Vec::new();
    for place in on_path.chain(data.map(|data| data.join(OWN_GO))).chain([USUAL_GO.into()]) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_order() {
        let order = ["go1.9", "1.21", "1.21beta1", "go1.21rc2", "1.21.0", "go1.26.8-X:none", "1.26.10", "1.27"];
        let parsed: Vec<_> = order.iter().map(|v| parse_go_version(v).unwrap()).collect();
        assert!(parsed.windows(2).all(|pair| pair[0] < pair[1]), "{parsed:?}");
        for bad in ["", "go", "devel", "1.x", "1.26.x", "1.26rc"] {
            assert_eq!(parse_go_version(bad), None, "{bad}");
        }
    }
}
