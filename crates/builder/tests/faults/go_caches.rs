//! Go's caches on a build machine, written to by others: what is compiled is what `go.sum` and the lock pin.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::go_program::go_program;
use testkit::need::have;
use testkit::project::Project;

/// Changes the one file of the unpacked module.
fn poison(module_cache: &Path) {
    let dir = module_cache.join("example.com/dep@v1.0.0");
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::remove_file(dir.join("dep.go")).unwrap();
    std::fs::write(dir.join("dep.go"), "package dep\n\nconst Name = \"bad\"\n").unwrap();
}

/// `build` for a user with these caches and odd settings.
fn build(project: &Project, more: &[&str]) -> testkit::project::Run {
    let mut command = project.command(&[&["build", "--recipe", "tiny"], more].concat());
    command.env("GOMODCACHE", project.path("host/mod")).env("GOCACHE", project.path("host/build"));
    command
        .env("GOPROXY", format!("file://{}", project.path("proxy").display()))
        .env("GOSUMDB", "off")
        .env("GOFLAGS", "-tags=evil")
        .env("GOWORK", "/nowhere/go.work");
    command.env("GOENV", project.path("host/env")).env("GOCACHEPROG", "/nowhere/program");
    testkit::project::Run::of(command.output().expect("the program starts"))
}

/// What the programs print that were built so far.
fn said(project: &Project) -> Vec<String> {
    let built = std::fs::read_dir(project.path("cache/derived/go")).unwrap().flatten();
    let programs: Vec<PathBuf> = built.map(|dir| dir.path().join("program-0")).collect();
    let run = |path: &PathBuf| Command::new(path).output().expect("it was built to run here");
    // `println` of the language writes to standard error.
    programs.iter().map(|path| String::from_utf8(run(path).stderr).unwrap()).collect()
}

#[test]
fn the_users_caches_and_settings_have_no_say() {
    if !have(&["python3"]) {
        return;
    }
    let project = go_program();
    poison(&project.path("host/mod"));
    project.write("host/env", "GOEXPERIMENT=nosuchexperiment\nGOFLAGS=-tags=evil\n");
    build(&project, &[]).succeeds();
    assert_eq!(said(&project), ["good\n"]);
    assert!(!project.path("host/build").exists(), "nothing is compiled into the user's cache");
}

#[test]
fn our_own_cache_is_compared_with_the_checksums_too() {
    if !have(&["python3"]) {
        return;
    }
    let project = go_program();
    build(&project, &[]).succeeds();
    poison(&project.path("cache/go/mod"));
    // Else nothing would be compiled.
    std::fs::remove_dir_all(project.path("cache/derived/go")).unwrap();
    std::fs::remove_dir_all(project.path("out")).unwrap();
    let run = build(&project, &["--locked"]);
    run.succeeds().says(&["module `example.com/dep@v1.0.0` was changed in the cache: fetching it anew"]);
    assert_eq!(said(&project), ["good\n"]);
}
