//! What is around a build does not show in the image; a cache that was damaged is noticed.

use std::process::Command;
use testkit::project::{Project, Run};

/// The build in another folder with this around it.
fn build_with(roots: &str, shell: &str, env: &[(&str, &str)], more: &[&str]) -> Project {
    let project = Project::with_root(roots);
    let inner = project.command(&[]);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{shell}; exec \"$@\""), "sh"]).arg(inner.get_program());
    command.args(["build", "--recipe", "tiny"]).args(more).current_dir(project.path(""));
    for (name, value) in inner.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        command.env(name, value);
    }
    Run::of(command.envs(env.iter().copied()).output().unwrap()).succeeds();
    project
}

/// What a shell does before, the environment, arguments of the build.
type Surroundings = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

const SURROUNDINGS: [Surroundings; 5] = [
    ("umask 077", &[], &["--jobs", "1"]),
    ("umask 000", &[("TZ", "Pacific/Kiritimati"), ("LC_ALL", "C.UTF-8")], &["--jobs", "5"]),
    ("ulimit -n 64", &[("LANG", "tr_TR.UTF-8"), ("HOME", "/nonexistent")], &["-v"]),
    // Empty variables say nothing.
    (":", &[("BOOTWRIGHT_SNAPSHOT", ""), ("BOOTWRIGHT_MIRROR", "")], &[]),
    ("exec 3</dev/null", &[("TERM", "dumb"), ("COLUMNS", "20")], &["-q"]),
];

#[test]
fn folder_umask_locale_zone_and_threads_do_not_show() {
    let mut roots = vec!["image = \"cpio\""];
    if testkit::need::have(&["mksquashfs"]) {
        roots.push("image = \"squashfs\"");
    }
    for root in roots {
        let expected = Project::with_root(root).good_build();
        for (shell, env, more) in SURROUNDINGS {
            let project = build_with(root, shell, env, more);
            project.image().is_like(&expected);
        }
    }
}

#[test]
fn a_web_server_of_another_user_can_read_the_image() {
    use std::os::unix::fs::PermissionsExt;
    let project = build_with("image = \"cpio\"", "umask 077", &[], &[]);
    for entry in walkdir::WalkDir::new(project.path("out/tiny")).into_iter().map(Result::unwrap) {
        let mode = entry.metadata().unwrap().permissions().mode();
        let wanted = if entry.file_type().is_dir() { 0o055 } else { 0o044 };
        let internal = entry.path().ends_with(".build.json");
        assert!(internal || mode & wanted == wanted, "{}: {mode:o}", entry.path().display());
    }
}

/// Flips a byte of every packed segment in the cache.
fn damage(project: &Project) {
    for entry in walkdir::WalkDir::new(project.path("cache/derived/segments")).into_iter().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with("segment.cpio") {
            let mut bytes = std::fs::read(entry.path()).unwrap();
            bytes[30] ^= 1;
            // It is read-only, and the image may share it.
            std::fs::remove_file(entry.path()).unwrap();
            std::fs::write(entry.path(), bytes).unwrap();
        }
    }
}

#[test]
fn a_damaged_segment_in_the_cache_is_noticed_and_made_anew() {
    let project = Project::new();
    let image = project.good_build();
    damage(&project);
    project.build(&[]).succeeds().says(&["nothing changed"]);
    project.write("out/tiny/boot.ipxe", "to be made again");
    let run = project.build(&["--locked"]);
    run.succeeds().says(&["the packed segment boot in the cache is damaged: packing it anew"]);
    project.image().is_like(&image);
}
