//! Builds of tiny modules: no network, a module cache of their own, modules from a proxy that is a folder.

use super::toolchain::at_least;
use super::*;
use crate::cache::Cache;
use crate::fetch::{FetchError, Settings};
use crate::licence::Licence;
use crate::ui::{Ui, Verbosity};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

struct World {
    dir: TempDir,
    cache: Cache,
    ui: Ui,
    settings: Settings,
    go: Toolchain,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("cache")).unwrap();
        let ui = Ui { verbosity: Verbosity::Quiet, ..Ui::default() };
        let mut go = at_least(&Toolchain::find_all("tests", false).unwrap(), "tests", "1.21").unwrap().clone();
        let text = |path: &str| dir.path().join(path).display().to_string();
        go.env = [
            ("GOPROXY", format!("file://{}", text("proxy"))),
            ("GOSUMDB", "off".into()),
            // Compiles the standard library once for all tests.
            ("GOCACHE", std::env::temp_dir().join("bootwright-tests-go").display().to_string()),
        ]
        .map(|(k, v)| (k.to_string(), v))
        .to_vec();
        let go = go.with_caches(cache.root());
        Self { cache, ui, settings: Settings { jobs: 2, ..Settings::default() }, go, dir }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn context(&self) -> Context<'_> {
        Context { cache: &self.cache, ui: &self.ui, settings: &self.settings, recipe_dir: self.dir.path() }
    }

    fn lock(&self, spec: &GoSpec) -> Result<Vec<Pin>, SourceError> {
        Go { spec }.lock_with(std::slice::from_ref(&self.go), &self.context())
    }

    fn fetch(&self, spec: &GoSpec, pins: &[Pin]) -> Result<(), SourceError> {
        Go { spec }.fetch_with(|| Ok(vec![self.go.clone()]), pins, &self.context())
    }

    fn build(&self, spec: &GoSpec) -> Result<Pool, SourceError> {
        let pins = self.lock(spec)?;
        self.fetch(spec, &pins)?;
        Go { spec }.open(&pins, &self.context())
    }

    /// Puts a module into the proxy (https://go.dev/ref/mod, "GOPROXY protocol"). Returns its lines for a `go.sum`.
    fn publish(&self, module: &str, version: &str, files: &[(&str, &str)]) -> String {
        let base = format!("proxy/{module}/@v/{version}");
        let named: Vec<_> = files.iter().map(|(name, text)| (format!("{module}@{version}/{name}"), *text)).collect();
        std::fs::create_dir_all(self.dir.path().join(&base).parent().unwrap()).unwrap();
        std::fs::write(self.dir.path().join(format!("{base}.zip")), zip(&named)).unwrap();
        let go_mod = files.iter().find(|(name, _)| *name == "go.mod").unwrap().1;
        self.write(&format!("{base}.mod"), go_mod);
        self.write(&format!("{base}.info"), &format!("{{\"Version\":\"{version}\"}}"));
        let mod_sum = checksum(&[("go.mod".into(), go_mod)]);
        format!("{module} {version} {}\n{module} {version}/go.mod {mod_sum}\n", checksum(&named))
    }
}

/// Hash1 of golang.org/x/mod/sumdb/dirhash: SHA-256, as base64, of the sorted lines `<sha256>  <name>`.
fn checksum(files: &[(String, &str)]) -> String {
    let mut lines: Vec<_> = files.iter().map(|(name, text)| (name, Sha256::of(text.as_bytes()))).collect();
    lines.sort();
    let list: String = lines.iter().map(|(name, sha256)| format!("{sha256}  {name}\n")).collect();
    format!("h1:{}", BASE64.encode(Sha256::of(list.as_bytes()).0))
}

/// A zip archive of stored files (APPNOTE.TXT sections 4.3.7, 4.3.12 and 4.3.16).
fn zip(files: &[(String, &str)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, text) in files {
        let mut crc = flate2::Crc::new();
        crc.update(text.as_bytes());
        let size = (text.len() as u32).to_le_bytes();
        let mut head = vec![10, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        head.extend([crc.sum().to_le_bytes(), size, size].concat());
        head.extend([(name.len() as u16).to_le_bytes(), [0, 0]].concat());
        directory.extend(b"PK\x01\x02\x14\x00".iter().chain(&head));
        directory.extend([0; 10]);
        directory.extend((out.len() as u32).to_le_bytes().iter().chain(name.as_bytes()));
        out.extend(b"PK\x03\x04".iter().chain(&head).chain(name.as_bytes()).chain(text.as_bytes()));
    }
    let (start, length, count) = (out.len() as u32, directory.len() as u32, files.len() as u16);
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    out.extend([length.to_le_bytes(), start.to_le_bytes()].concat());
    out.extend([0, 0]);
    out
}

fn dir_spec() -> GoSpec {
    GoSpec {
        module: String::new(),
        version: String::new(),
        dir: Some("prog".into()),
        packages: BTreeMap::from([(".".into(), "usr/bin/hello".into())]),
        tags: vec![],
        ldflags: "-s -w -buildid=".into(),
        gcflags: Vec::new(),
        patches: vec![],
    }
}

fn module_spec(module: &str, version: &str, package: &str) -> GoSpec {
    let packages = BTreeMap::from([(package.to_string(), "usr/bin/hello".into())]);
    GoSpec { module: module.into(), version: version.into(), dir: None, packages, ..dir_spec() }
}

/// Runs the only program of a pool.
fn run(pool: &Pool) -> String {
    let [entry] = pool.entries.as_slice() else { panic!("{:?}", pool.entries) };
    assert_eq!((entry.path.as_str(), entry.mode), ("usr/bin/hello", 0o755));
    let Kind::File(Body { at: BodyAt::File { path, .. }, sha256, size }) = &entry.kind else { panic!("{entry:?}") };
    let bytes = std::fs::read(path).unwrap();
    assert_eq!((Sha256::of(&bytes), bytes.len() as u64), (*sha256, *size));
    assert!(path.metadata().unwrap().permissions().mode() & 0o111 != 0);
    // `println` of the language writes to standard error.
    String::from_utf8(std::process::Command::new(&**path).output().unwrap().stderr).unwrap()
}

const HELLO: &str = "package main\n\nfunc main() { println(\"hello\") }\n";

#[test]
fn a_folder_is_built_once() {
    let world = World::new();
    world.write("prog/go.mod", "module example/prog\n\ngo 1.21\n");
    world.write("prog/main.go", HELLO);
    world.write("prog/.hidden", "not part of it");
    let pins = world.lock(&dir_spec()).unwrap();
    assert_eq!(pins.len(), 1);
    assert_eq!((pins[0].name.as_str(), &pins[0].detail["toolchain"]), ("example/prog", &world.go.version));
    let pool = world.build(&dir_spec()).unwrap();
    assert_eq!(run(&pool), "hello\n");
    assert_eq!(pool.packages[0].purl, Some(format!("pkg:golang/std@{}", &world.go.version[2..])));
    // What is there needs no Go: not at another place in the image either.
    let moved = GoSpec { packages: BTreeMap::from([(".".into(), "bin/x".into())]), ..dir_spec() };
    for spec in [dir_spec(), moved] {
        Go { spec: &spec }.fetch_with(|| panic!("built twice"), &pins, &world.context()).unwrap();
    }
    assert!(Go { spec: &dir_spec() }.is_current(&pins, &world.context()).unwrap());
    // A changed file is another build.
    world.write("prog/main.go", &HELLO.replace("hello", "again"));
    assert!(!Go { spec: &dir_spec() }.is_current(&pins, &world.context()).unwrap());
    let error = world.fetch(&dir_spec(), &pins).unwrap_err().to_string();
    assert_eq!(error, "`prog`: it is not what the lock pins");
    assert_eq!(run(&world.build(&dir_spec()).unwrap()), "again\n");
}

/// The bytes do not depend on the folder, which is another one in each world.
#[test]
fn builds_are_reproducible() {
    let hashes = [(); 2].map(|()| {
        let world = World::new();
        world.write("prog/go.mod", "module example/prog\n\ngo 1.21\n");
        world.write("prog/main.go", HELLO);
        let Kind::File(body) = world.build(&dir_spec()).unwrap().entries.remove(0).kind else { panic!() };
        body.sha256
    });
    assert_eq!(hashes[0], hashes[1]);
}

#[test]
fn a_module_with_folders_of_its_repository() {
    let world = World::new();
    let main = "package main\n\nimport (\"example.com/api\"; \"example.com/fork\")\n\n\
        func main() { println(api.Name, fork.Name) }\n";
    let api = [("go.mod", "module example.com/api\n\ngo 1.21\n"), ("a.go", "package api\n\nconst Name = \"api\"\n")];
    world.publish("example.com/api", "v0.36.3", &api);
    let fork = [("go.mod", "module example.com/fork\n\ngo 1.21\n"), ("f.go", "package fork\n\nconst Name = \"f\"\n")];
    let sums = world.publish("example.com/forked", "v1.0.1", &fork);
    world.publish(
        "example.com/big",
        "v1.36.3",
        &[
            (
                "go.mod",
                "module example.com/big\n\ngo 1.21\n\nrequire example.com/api v0.0.0\nrequire example.com/fork v1.0.0\n\n\
                 replace example.com/api => ./staging/api\nreplace example.com/fork => example.com/forked v1.0.1\n",
            ),
            ("go.sum", &sums),
            ("cmd/hello/main.go", main),
        ],
    );
    let spec = module_spec("example.com/big", "v1.36.3", "example.com/big/cmd/hello");
    let pins = world.lock(&spec).unwrap();
    let named: Vec<_> = pins.iter().map(|pin| format!("{} {}", pin.name, pin.version)).collect();
    assert_eq!(named, ["example.com/api v0.36.3", "example.com/big v1.36.3"]);
    assert!(pins[1].detail["sum"].starts_with("h1:") && pins[1].size > 0);
    world.fetch(&spec, &pins).unwrap();
    let pool = Go { spec: &spec }.open(&pins, &world.context()).unwrap();
    assert_eq!(run(&pool), "api f\n");
    let purls: Vec<_> = pool.packages.iter().filter_map(|p| p.purl.as_deref()).collect();
    assert!(purls.contains(&"pkg:golang/example.com/forked@v1.0.1"), "{purls:?}");

    let mut other = pins.clone();
    other[0].detail.insert("sum".into(), pins[1].detail["sum"].clone());
    let error = world.fetch(&spec, &other).unwrap_err().to_string();
    assert!(error.starts_with("`example.com/api v0.36.3` has the wrong hash: expected "), "{error}");
    let mut other = pins.clone();
    other[1].detail.insert("toolchain".into(), "go1.20.1".into());
    let error = world.fetch(&spec, &other).unwrap_err().to_string();
    assert!(error.starts_with("the programs are pinned to be built by go1.20.1, and this machine has go1."), "{error}");
}

#[test]
fn the_licences_are_those_of_what_is_compiled_in() {
    let world = World::new();
    let lib = [
        ("go.mod", "module example.com/lib\n\ngo 1.21\n"),
        ("LICENSE", "SPDX-License-Identifier: MIT\n"),
        ("NOTICE", "by its authors\n"),
        ("used/used.go", "package used\n\nfunc Say() { println(\"lib\") }\n"),
        ("used/COPYING", "Do as you like.\n"),
        ("other/other.go", "package other\n"),
        ("other/LICENSE", "SPDX-License-Identifier: GPL-3.0-only\n"),
        ("tagged/tagged.go", "package tagged\n"),
        ("tagged/LICENSE", "SPDX-License-Identifier: ISC\n"),
        ("used/tagged.go", "//go:build extra\n\npackage used\n\nimport _ \"example.com/lib/tagged\"\n"),
    ];
    let sums = world.publish("example.com/lib", "v1.0.0", &lib);
    world.write("prog/main.go", "package main\n\nimport \"example.com/lib/used\"\n\nfunc main() { used.Say() }\n");
    world.write("prog/go.mod", "module example/prog\n\ngo 1.21\n\nrequire example.com/lib v1.0.0\n");
    world.write("prog/go.sum", &sums);
    // A patched module keeps its licence: the copy in the workspace has the file.
    let patch =
        "--- a/used/used.go\n+++ b/used/used.go\n@@ -3,1 +3,1 @@\n-func Say() { println(\"lib\") }\n+func Say() {}\n";
    world.write("a.patch", &format!("Module: example.com/lib\n{HEADER}\n{patch}"));
    for (tags, patches, expected) in [
        (vec![], vec![], "MIT"),
        (vec!["extra".to_string()], vec![], "ISC AND MIT"),
        (vec![], vec!["a.patch".into()], "MIT"),
    ] {
        let pool = world.build(&GoSpec { tags, patches, ..dir_spec() }).unwrap();
        let facts = |name: &str| pool.packages.iter().find(|p| p.name == name).unwrap();
        let lib = facts("example.com/lib");
        let own = Licence::of_text("example.com/lib", "Do as you like.\n");
        let expected = Licence::all([Licence::known(expected), own.clone()]).unwrap();
        let spelled: BTreeSet<&str> = lib.license.as_deref().unwrap().split(" AND ").collect();
        assert_eq!(spelled, expected.expression.split(" AND ").collect());
        assert_eq!(lib.license_texts, own.texts);
        assert_eq!(lib.notices, BTreeSet::from(["by its authors\n".to_string()]));
        assert_eq!(facts("std").license.as_deref(), Some("BSD-3-Clause"));
    }
}

const HEADER: &str = "Description: one line\n and another\nForwarded: not-needed\nGuard: this test\n";

#[test]
fn patches_reach_the_standard_library_and_modules() {
    let world = World::new();
    let lib = [
        ("go.mod", "module example.com/lib\n\ngo 1.21\n"),
        ("tool/tool.go", "package main\n\nfunc main() { println(\"tool\") }\n"),
        ("tool/tool_test.go", "package main\n"),
    ];
    let sums = world.publish("example.com/lib", "v1.0.0", &lib);
    let main = "package main\n\nimport (\"errors\"; \"example.com/lib/tool\")\n\n\
        func main() { tool.Main(); println(errors.ErrUnsupported.Error()) }\n";
    world.write("prog/main.go", main);
    world.write("prog/go.mod", "module example/prog\n\ngo 1.21\n\nrequire example.com/lib v1.0.0\n");
    world.write("prog/go.sum", &sums);
    let tool =
        |hunk: &str| format!("Module: example.com/lib\n{HEADER}\n--- a/tool/tool.go\n+++ b/tool/tool.go\n{hunk}");
    let package = tool("@@ -1,3 +1,3 @@\n-package main\n+package tool\n \n func main() { println(\"tool\") }\n");
    // By the name it comes second, and its lines are those that the first one left.
    let function =
        "@@ -1,3 +1,3 @@\n package tool\n \n-func main() { println(\"tool\") }\n+func Main() { println(\"tool\") }\n";
    world.write("patches/1-package.patch", &package);
    world.write("patches/2-function.patch", &tool(function));
    world.write("patches/README", "no patch");
    let goroot = world.go.std_sources().unwrap().join("errors/errors.go");
    let errors = std::fs::read_to_string(goroot).unwrap();
    let edited = errors.replace("New(\"unsupported operation\")", "New(\"patched\")");
    let diff = diffy::create_patch(&errors, &edited).to_string();
    let diff = diff.replace("--- original", "--- a/errors/errors.go").replace("+++ modified", "+++ b/errors/errors.go");
    world.write("std.patch", &format!("Module: std\n{HEADER}\n{diff}"));
    let spec = |places: &[&str]| GoSpec { patches: places.iter().map(PathBuf::from).collect(), ..dir_spec() };
    let pool = world.build(&spec(&["patches", "std.patch"])).unwrap();
    assert_eq!(run(&pool), "tool\npatched\n");
    let lib = pool.packages.iter().find(|p| p.name == "example.com/lib").unwrap();
    assert_eq!(lib.version, "v1.0.0");
    let named: Vec<_> = pool.patches.iter().map(|p| (p.name.as_str(), p.module.as_str())).collect();
    let lib = "example.com/lib";
    assert_eq!(named, [("1-package.patch", lib), ("2-function.patch", lib), ("std.patch", "std")]);
    assert_eq!(pool.patches[0].description, "one line and another");
    assert!(pool.packages.iter().any(|package| package.name == "std"), "the SBOM says what the patch is for");

    // A patch that changes is another build, and one that fits elsewhere in the file does not fit.
    world.write(
        "patches/2-function.patch",
        &tool(function).replace("+func Main() { println(\"tool\") }", "+func Main() { println(\"other\") }"),
    );
    assert_eq!(run(&world.build(&spec(&["patches"])).unwrap()), "other\nunsupported operation\n");
    let cases = [
        (
            tool("@@ -2,3 +2,3 @@\n-package main\n+package tool\n \n func main() { println(\"tool\") }\n"),
            "it does not fit `tool/tool.go`: line 2 is ``, expected `package main`",
        ),
        (
            tool("@@ -3,2 +3,2 @@\n func main() { println(\"tool\") }\n-x\n+y\n"),
            "it does not fit `tool/tool.go`: line 4 is not there, expected `x`",
        ),
        (package.replace("tool/tool.go", "tool/gone.go"), "module `example.com/lib` has no file `tool/gone.go`"),
        // No patch changes a file of the machine that builds.
        (
            package.replace("tool/tool.go", "../../../prog/main.go"),
            "`../../../prog/main.go` is no path of a file in a module",
        ),
        (
            package.replace("a/tool/tool.go", "a//etc/hostname").replace("b/tool/tool.go", "b//etc/hostname"),
            "`/etc/hostname` is no path of a file in a module",
        ),
        (package.replace("Module: example.com/lib", "Module: ../lib"), "`../lib` is no module"),
        (
            package.replace("--- a/tool/tool.go", "--- /dev/null"),
            "it does more than change lines of files that are there",
        ),
        (
            package.replace("example.com/lib", "example.com/other"),
            "module `example.com/other` is not part of the build",
        ),
        (package.replace("Guard: this test\n", ""), "its header has no `Guard:`"),
        (
            package.split("---").next().unwrap().into(),
            "its diff cannot be read: error parsing patches at byte 0: no valid patches found",
        ),
    ];
    for (text, problem) in cases {
        world.write("bad.patch", &text);
        let error = world.build(&spec(&["bad.patch"])).unwrap_err().to_string();
        assert_eq!(error, format!("`bad.patch`: {problem}"), "{text}");
    }
}

#[test]
fn what_cannot_be_built_says_why() {
    let world = World::new();
    world.write("prog/main.go", "package main\n\nfunc main() { nonsense }\n");
    world.write("prog/go.mod", "module example/prog\n\ngo 1.21\n");
    let error = world.build(&dir_spec()).unwrap_err().to_string();
    assert!(error.starts_with("`go build .` failed (exit status: 1): "), "{error}");
    assert!(error.contains("./main.go:3:15: undefined: nonsense"), "{error}");

    world.write("prog/go.mod", "module example/prog\n\ngo 1.999.1\n");
    let error = world.lock(&dir_spec()).unwrap_err();
    let found = format!("needs go1.999.1, found {} at ", world.go.version);
    assert!(error.to_string().contains(&found), "{error}");
    assert!(error.help().starts_with("install Go 1.999.1 or newer"));

    world.write("prog/go.mod", "module example/prog\n\nrequire a v1.0.0\n\nreplace a => ../a\n");
    let error = world.lock(&dir_spec()).unwrap_err().to_string();
    assert!(error.ends_with("go.mod replaces `a` by a folder, which the lock cannot pin"), "{error}");
}

#[test]
fn a_checksum_that_go_sum_does_not_list() {
    let world = World::new();
    let lib = [("go.mod", "module example.com/lib\n\ngo 1.21\n"), ("lib.go", "package lib\n")];
    world.publish("example.com/lib", "v1.0.0", &lib);
    world.write("prog/main.go", "package main\n\nimport _ \"example.com/lib\"\n\nfunc main() {}\n");
    world.write("prog/go.mod", "module example/prog\n\ngo 1.21\n\nrequire example.com/lib v1.0.0\n");
    world.write("prog/go.sum", &format!("example.com/lib v1.0.0 {}\n", checksum(&[])));
    let error = world.lock(&dir_spec()).unwrap_err();
    assert!(
        matches!(&error, SourceError::Fetch(FetchError::WrongHash { name, .. }) if name == "example.com/lib v1.0.0"),
        "{error}"
    );
    world.write("prog/go.sum", "");
    let error = world.lock(&dir_spec()).unwrap_err().to_string();
    assert!(error.starts_with("`example.com/lib v1.0.0`: has no checksum to compare with `h1:"), "{error}");
}

/// A `go` that only says its version, or fails.
fn pretend_go(dir: &TempDir, name: &str, script: &str) -> std::path::PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn the_pinned_toolchain_may_stand_behind_others() {
    let dir = tempfile::tempdir().unwrap();
    let versions = [("a", "go1.19.8"), ("b", "go1.27.0"), ("c", "go1.26.8")];
    let mut places = vec![pretend_go(&dir, "broken", "exit 1"), dir.path().join("absent")];
    places.extend(
        versions.map(|(name, version)| pretend_go(&dir, name, &format!("echo '{{\"GOVERSION\": \"{version}\"}}'"))),
    );
    let found = Toolchain::find_in(places, "kubelet", false).unwrap();
    assert_eq!(found.iter().map(|go| go.version.as_str()).collect::<Vec<_>>(), versions.map(|(_, version)| version));
    assert_eq!(exactly(&found, "go1.26.8").unwrap().go, dir.path().join("c"));
    assert_eq!(at_least(&found, "prog", "1.26.8").unwrap().go, dir.path().join("b"), "the first that is new enough");
    let error = exactly(&found[..1], "go1.26.8").unwrap_err();
    let place = dir.path().join("a").display().to_string();
    let expected =
        format!("the programs are pinned to be built by go1.26.8, and this machine has go1.19.8 at `{place}`");
    assert_eq!(error.to_string(), expected);
    let help = error.help();
    assert!(
        help.starts_with("install go1.26.8 by `scripts/setup.sh image`") && help.contains("`bootwright lock`"),
        "{help}"
    );
    assert!(error.is_outdated_pin());
    let error = at_least(&found, "prog", "1.28").unwrap_err().to_string();
    assert!(error.starts_with("`prog`: needs go1.28, found go1.19.8 at `"), "{error}");
}

#[test]
fn a_machine_without_go() {
    let nowhere = tempfile::tempdir().unwrap();
    let error = Toolchain::find_in([nowhere.path().join("go")], "kubelet", false).unwrap_err();
    assert_eq!(error.to_string(), "`go` is missing, which kubelet needs");
    assert!(error.help().contains("`worker-prebuilt`"), "{}", error.help());
    let broken = pretend_go(&nowhere, "broken", "echo no such thing >&2; exit 3");
    let error = Toolchain::find_in([broken], "kubelet", false).unwrap_err().to_string();
    assert_eq!(error, "`go env GOVERSION` failed (exit status: 3): no such thing");
}

#[test]
fn a_module_that_is_gone_or_not_here() {
    let mut world = World::new();
    let spec = module_spec("example.com/none", "v1.0.0", "example.com/none");
    let error = world.lock(&spec).unwrap_err();
    assert_eq!(error.to_string(), "`example.com/none` v1.0.0 is gone from the Go module proxy");
    world.go.env.retain(|(name, _)| name != "GOPROXY");
    world.go.offline = true;
    let error = world.lock(&spec).unwrap_err().to_string();
    assert_eq!(error, "`example.com/none v1.0.0` is not in the cache and --offline is set");
    let error = Go { spec: &spec }.open(&[], &world.context()).unwrap_err().to_string();
    assert_eq!(error, "`hello` is not in the cache and --offline is set");
}
