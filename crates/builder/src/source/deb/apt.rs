//! Runs the host's `apt-get` with a private state: it downloads and verifies package lists and solves dependencies.
//!
//! Nothing of the host's package state is read or changed and no privilege is needed. Package lists are kept in
//! `<cache>/apt/<key>/`, a key for each mirror, suite and set of areas.

use super::host::load_kept_options;
use super::mirror::Mirror;
use super::resolve::{compile_globs, parse_print_uris, prune};
use crate::cache::CacheLock;
use crate::entry::Sha256;
use crate::fetch::{Context, FetchError};
use crate::recipe::DebSpec;
use crate::source::{Pin, SourceError};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where Debian's archive keys may be on a host; the package debian-archive-keyring brings them (it is also in Ubuntu).
pub const KEYRINGS: &[&str] =
    &["/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"];

/// Read before anything else by apt (apt.conf(5), APT_CONFIG): keeps the host's configuration files out.
const BASE_CONFIG: &str = r#"Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null";
Dir::Cache::pkgcache "";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::ForceHash "SHA256";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"#;

/// What our runs of apt take from the host.
#[derive(Debug, Clone)]
pub struct Trust {
    /// OpenPGP keys that may sign package lists.
    pub keyring: PathBuf,
    /// Options of apt ([`load_kept_options`]).
    pub options: BTreeMap<String, String>,
}

/// Debian's keyring and apt's options on this host.
pub fn load_trust() -> Result<Trust, SourceError> {
    let found = KEYRINGS.iter().map(PathBuf::from).find(|path| path.is_file());
    let keyring = found.ok_or_else(|| SourceError::MissingTool {
        tool: KEYRINGS[1].into(),
        needed_for: "verifying Debian's package lists".into(),
        install: "install it with `sudo apt-get install debian-archive-keyring`".into(),
    })?;
    Ok(Trust { keyring, options: load_kept_options()? })
}

/// What the lists of a suite tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lists {
    /// Binary packages.
    Packages,
    /// Source packages.
    Sources,
}

/// The package lists of a suite on a mirror, held exclusively while this value lives.
pub struct Apt<'a> {
    spec: &'a DebSpec,
    mirror: &'a Mirror,
    cx: &'a Context<'a>,
    /// Lists and apt's own cache of them; stays.
    lists: PathBuf,
    /// Configuration, sources, an empty status file; goes.
    work: tempfile::TempDir,
    _lock: CacheLock,
}

impl<'a> Apt<'a> {
    /// Waits for the lists of that mirror and suite.
    pub fn open(
        lists: Lists,
        spec: &'a DebSpec,
        mirror: &'a Mirror,
        trust: &Trust,
        cx: &'a Context<'a>,
    ) -> Result<Self, SourceError> {
        let sources = sources_text(lists, spec, mirror, &trust.keyring);
        let key = format!("{}-{}", spec.suite, &Sha256::of(sources.as_bytes()).to_string()[..16]);
        let lock = cx.cache.lock(&format!("apt/{key}"))?;
        let lists = cx.cache.root().join("apt").join(key);
        let work = cx.cache.temp_dir()?;
        for dir in [lists.join("lists/partial"), lists.join("cache/archives/partial"), work.path().join("sources")] {
            std::fs::create_dir_all(&dir).map_err(|cause| SourceError::Io { action: "make", path: dir, cause })?;
        }
        let mut config = BASE_CONFIG.to_string();
        for (name, value) in &trust.options {
            config.push_str(&format!("{name} \"{value}\";\n"));
        }
        for (name, text) in [("apt.conf", config.as_str()), ("status", ""), ("sources/debian.sources", &sources)] {
            let path = work.path().join(name);
            std::fs::write(&path, text).map_err(|cause| SourceError::Io { action: "write", path, cause })?;
        }
        Ok(Self { spec, mirror, cx, lists, work, _lock: lock })
    }

    /// Fetches the lists as far as they changed; apt verifies them. Happens once for each run of this program.
    pub fn update(&self) -> Result<(), SourceError> {
        let fetched = self.lists.join("fetched");
        if self.cx.settings.offline {
            // Written below after the first whole update.
            let name = || format!("the package lists of {}", self.spec.suite);
            return if fetched.exists() {
                Ok(())
            } else {
                Err(SourceError::Fetch(FetchError::Offline { name: name() }))
            };
        }
        if self.cx.settings.refreshed.holds(&self.lists) {
            return Ok(());
        }
        let _task = self.cx.ui.task(&format!("package lists of {}", self.spec.suite), None);
        self.run("apt-get", &["update", "-q"], &[])?;
        std::fs::write(&fetched, "").map_err(|cause| SourceError::Io { action: "write", path: fetched, cause })?;
        self.cx.settings.refreshed.add(&self.lists);
        Ok(())
    }

    /// The packages of the spec with what they depend on, as far as it is not left out.
    pub fn resolve(&self) -> Result<Vec<Pin>, SourceError> {
        let packages: Vec<&str> = self.spec.packages.iter().map(String::as_str).collect();
        let action = if self.spec.depends { "install" } else { "download" };
        let text = self.run("apt-get", &[action, "--print-uris", "-q", "-y", "--"], &packages)?;
        let unclear = |cause: super::resolve::AnswerProblem| SourceError::Command {
            command: format!("apt-get {action} --print-uris"),
            status: "its answer is not understood".into(),
            stderr: cause.to_string(),
        };
        let pins = parse_print_uris(&text, self.mirror).map_err(unclear)?;
        // apt also takes regular expressions and virtual packages: a recipe names what it gets.
        let names: Vec<&str> = packages.iter().map(|p| p.split('=').next().unwrap_or(p)).collect();
        for name in &names {
            if !pins.iter().any(|pin| pin.name == *name) {
                return Err(unknown_package(name, self.spec));
            }
        }
        if self.spec.without.is_empty() || !self.spec.depends {
            return Ok(pins);
        }
        let exact: Vec<String> = pins.iter().map(|pin| format!("{}={}", pin.name, pin.version)).collect();
        let exact: Vec<&str> = exact.iter().map(String::as_str).collect();
        let records = self.run("apt-cache", &["show", "--"], &exact)?;
        let without = compile_globs(&self.spec.without).map_err(|e| bad_spec(e.glob().unwrap_or("without"), &e))?;
        if let Some(name) = names.iter().find(|name| without.is_match(name)) {
            return Err(bad_spec(name, &"it is both in `packages` and left out by `without`"));
        }
        prune(pins, &names, &without, &records).map_err(unclear)
    }

    /// The stanzas of `Sources` of all versions of these source packages; of those that it does not list there is none.
    pub fn sources(&self, names: &[&str]) -> Result<String, SourceError> {
        self.run("apt-cache", &["showsrc", "--only-source", "--"], names)
    }

    fn run(&self, program: &str, arguments: &[&str], packages: &[&str]) -> Result<String, SourceError> {
        let work = self.work.path();
        let mut command = Command::new(program);
        for (name, path) in [
            ("Dir::Etc::sourceparts", work.join("sources")),
            ("Dir::State", work.to_path_buf()),
            ("Dir::State::lists", self.lists.join("lists")),
            ("Dir::State::status", work.join("status")),
            ("Dir::Cache", self.lists.join("cache")),
        ] {
            let mut option = OsString::from(format!("{name}="));
            option.push(path);
            command.arg("-o").arg(option);
        }
        command.args(arguments).args(packages);
        command.env("APT_CONFIG", work.join("apt.conf")).env("LC_ALL", "C.UTF-8");
        self.cx.ui.detail(format_args!("run: {program} {} {}", arguments.join(" "), packages.join(" ")));
        let output = command.output().map_err(|cause| match cause.kind() {
            ErrorKind::NotFound => missing_apt(program, self.spec),
            _ => SourceError::Io { action: "run", path: program.into(), cause },
        })?;
        self.read_output(output, program, arguments[0])
    }

    fn read_output(&self, output: Output, program: &str, action: &str) -> Result<String, SourceError> {
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if let Some(name) = said.lines().find_map(unlocated_package) {
            return Err(unknown_package(name, self.spec));
        }
        // Which dependencies cannot be met is listed on standard output, in indented lines.
        let details = String::from_utf8_lossy(&output.stdout);
        let details = details.lines().filter(|line| line.starts_with(' '));
        let stderr = said.lines().chain(details).map(str::trim_end).collect::<Vec<_>>().join("\n");
        Err(SourceError::Command { command: format!("{program} {action}"), status: output.status.to_string(), stderr })
    }
}

/// The name in apt's words for a package that no list holds, or that is only a virtual one.
fn unlocated_package(line: &str) -> Option<&str> {
    let virtual_one =
        || line.strip_prefix("E: Package '").and_then(|rest| rest.strip_suffix("' has no installation candidate"));
    line.strip_prefix("E: Unable to locate package ").or_else(virtual_one)
}

/// deb822 sources (sources.list(5)) of the suite and its updates.
fn sources_text(lists: Lists, spec: &DebSpec, mirror: &Mirror, keyring: &Path) -> String {
    let DebSpec { suite, areas, security, .. } = spec;
    let types = match lists {
        Lists::Packages => "deb",
        Lists::Sources => "deb-src",
    };
    let stanza = |address: &str, suites: &str| {
        let (areas, keyring) = (areas.join(" "), keyring.display());
        format!("Types: {types}\nURIs: {address}\nSuites: {suites}\nComponents: {areas}\nSigned-By: {keyring}\n\n")
    };
    match security {
        true => {
            stanza(&mirror.main, &format!("{suite} {suite}-updates"))
                + &stanza(&mirror.security, &format!("{suite}-security"))
        }
        false => stanza(&mirror.main, suite),
    }
}

/// Checks what goes into apt's command line and sources: names, not options, patterns or further lines.
pub fn check_spec(spec: &DebSpec) -> Result<(), SourceError> {
    let plain = |text: &str, more: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    for word in spec.areas.iter().chain([&spec.suite]) {
        if !plain(word, "-_./") {
            return Err(bad_spec(word, &"it is no name of a suite or area"));
        }
    }
    if spec.packages.is_empty() || spec.areas.is_empty() {
        return Err(bad_spec("deb", &"`packages` and `areas` need at least one name each"));
    }
    for package in &spec.packages {
        let (name, version) = package.split_once('=').unwrap_or((package, "0"));
        // Debian Policy sections 5.6.1 and 5.6.12. apt reads a trailing `-` as "remove".
        if !plain(name, "+-.") || name.ends_with('-') || !plain(version, "+-.~:") {
            return Err(bad_spec(package, &"it is no package name, nor `name=version`"));
        }
    }
    Ok(())
}

fn missing_apt(program: &str, spec: &DebSpec) -> SourceError {
    SourceError::MissingTool {
        tool: program.into(),
        needed_for: format!("resolving {} in {}", spec.packages.join(", "), spec.suite),
        install: "pin on a host with apt (Debian, Ubuntu) and bring the lock file along: a build from a complete lock needs no apt".into(),
    }
}

fn unknown_package(name: &str, spec: &DebSpec) -> SourceError {
    SourceError::BadInput {
        subject: name.into(),
        problem: format!("no such package in {} ({})", spec.suite, spec.areas.join(", ")),
        help: "check the name, or add the archive area that holds it to `areas`; a virtual package must be named by one that provides it".into(),
    }
}

fn bad_spec(subject: &str, problem: &dyn std::fmt::Display) -> SourceError {
    SourceError::BadInput {
        subject: subject.into(),
        problem: problem.to_string(),
        help: "correct the component's `deb` source in the recipe".into(),
    }
}
