//! Disks that are full or cannot be written.
//!
//! A small tmpfs in a mount namespace of its own: needs no root where user namespaces are allowed.

use std::process::Command;
use testkit::need::user_namespaces;
use testkit::project::{Project, Run};

/// Runs a shell script in the project, in a mount namespace; `$BOOTWRIGHT build --recipe tiny` is `build`.
fn in_namespace(project: &Project, script: &str) -> Run {
    let inner = project.command(&["build", "--recipe", "tiny"]);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-ec"]);
    command.arg(format!("build() {{ '{}' build --recipe tiny \"$@\"; }}\n{script}", inner.get_program().display()));
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(project.path(""));
    Run::of(command.output().expect("unshare was there a moment ago"))
}

/// A project with an image, and what its sources are changed to.
fn prepared() -> Project {
    let project = Project::new();
    project.good_build();
    project.write("tool/data", vec![b'n'; 3_000_000]);
    project
}

fn expected() -> Project {
    let project = Project::new();
    project.write("tool/data", vec![b'n'; 3_000_000]);
    project.edit("[root]", "[pack]\nstable = \"none\"\n[root]");
    project.good_build();
    project
}

/// Builds an image that changed, and is larger, where `prepare` has made a disk too small or not writable; `extra` goes to the
/// build, and `compare` shows that nothing changed. It fails with `words`, and the next build is a good one.
fn keeps_the_last_image(prepare: &str, extra: &str, compare: &str, words: &[&str]) {
    if !user_namespaces() {
        return;
    }
    let project = prepared();
    // Uncompressed, the new root does not fit beside the old image.
    project.edit("[root]", "[pack]\nstable = \"none\"\n[root]");
    let build = format!("set +e; build {extra}; code=$?; set -e");
    let run = in_namespace(&project, &["cp -a out old", prepare, &build, compare, "exit $code"].join("\n"));
    run.fails(1, words);
    project.good_build().is_like(&expected().image());
}

#[test]
fn a_full_out_keeps_the_last_image() {
    let prepare = "mount -t tmpfs -o size=2m none out; cp -a old/. out/";
    let compare = "diff -r old/tiny out/tiny; test ! -e out/.tiny.new";
    let words = ["out/.tiny.new/", "No space left on device", "the disk is full", "--out"];
    keeps_the_last_image(prepare, "", compare, &words);
}

#[test]
fn a_full_cache_keeps_the_last_image() {
    let prepare = "mkdir small; mount -t tmpfs -o size=2m none small";
    let compare = "diff -r old out; test -z \"$(ls small/tmp)\"; test -z \"$(find small -size +1000k)\"";
    let words = ["small/", "No space left on device", "the disk is full", "--cache"];
    keeps_the_last_image(prepare, "--cache small", compare, &words);
}

#[test]
fn a_read_only_out_keeps_the_last_image() {
    let prepare = "mount --bind out out; mount -o remount,bind,ro out";
    let words = ["out/", "Read-only file system", "must be writable", "--out"];
    keeps_the_last_image(prepare, "", "diff -r old out", &words);
}

#[test]
fn a_read_only_cache_serves_what_it_holds_and_says_what_it_cannot_take() {
    if !user_namespaces() {
        return;
    }
    let project = Project::new();
    let image = project.good_build();
    let script = "
        mount --bind cache cache
        mount -o remount,bind,ro cache
        rm -r out
        build --locked";
    in_namespace(&project, script).succeeds();
    project.image().is_like(&image);
    project.write("tool/data", "else");
    let script = "
        mount --bind cache cache
        mount -o remount,bind,ro cache
        build";
    in_namespace(&project, script).fails(1, &["cache/", "Read-only file system", "--cache"]);
    project.image().is_like(&image);
}

#[test]
fn a_read_only_recipe_folder_is_named() {
    if !user_namespaces() {
        return;
    }
    let project = prepared();
    let image = project.image();
    let script = "
        mount --bind recipes recipes
        mount -o remount,bind,ro recipes
        build";
    in_namespace(&project, script).fails(1, &["recipes/tiny.lock", "Read-only file system", "permissions"]);
    project.image().is_like(&image);
    let again = Project::new();
    again.write("tool/data", vec![b'n'; 3_000_000]);
    project.good_build().is_like(&again.good_build());
}

#[test]
fn a_folder_of_somebody_else_is_not_touched() {
    let project = Project::new();
    project.write("out/tiny/precious", "mine");
    project.build(&[]).fails(1, &["out/tiny` is there and no image of ours", "--out"]);
    assert_eq!(project.read("out/tiny/precious"), "mine");
    assert_eq!(project.out_names(), ["tiny"]);
    std::fs::remove_file(project.path("out/tiny/precious")).unwrap();
    project.good_build().is_like(&Project::new().good_build());
}
