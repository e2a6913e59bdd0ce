//! `bootwright diff`, run as a user runs it.

use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use testkit::newc::entry;
use testkit::project::Project;

fn names(changes: &Value) -> Vec<&str> {
    changes.as_array().unwrap().iter().map(|change| change["name"].as_str().unwrap()).collect()
}

#[test]
fn identical_images_say_so() {
    let project = Project::new();
    project.build(&[]).succeeds();
    project.build(&["--out", "again"]).succeeds();
    let run = project.run(&["diff", "tiny", "again/tiny", "--exit-code"]);
    run.succeeds().says(&["identical: the same bytes"]);
    assert_eq!(run.out.lines().count(), 4, "nothing else is told: {}", run.out);
    assert_eq!(project.run(&["diff", "tiny", "again/tiny", "--json"]).json()["identical"], true);
}

#[test]
fn what_grew_is_told_by_component_file_and_module_and_the_rest_is_left_out() {
    let project = Project::new();
    project.build(&["--out", "before"]).succeeds();
    project.write("tool/data", vec![b'd'; 90_000]);
    project.write("overlay/etc/new.conf", "new\n");
    project.edit("hello", "good day");
    project.edit("modules = [\"second\"]", "modules = []");
    project.edit("console=ttyS0", "console=ttyS1");
    project.build(&[]).succeeds();
    let run = project.run(&["diff", "before/tiny", "recipes/tiny.toml", "--json"]);
    let diff = run.succeeds().json();
    assert_eq!((&diff["version"], &diff["identical"], &diff["weight"]), (&json!(1), &json!(false), &json!("packed")));
    assert_eq!(diff["totals"][0]["name"], "boot files");
    let what = |list: &str, name: &str| {
        let found = diff[list].as_array().unwrap().iter().find(|file| file["name"] == name);
        found.map(|file| file["what"].as_str().unwrap().to_string())
    };
    assert_eq!(what("files", "/opt/tool/data").as_deref(), Some("content"));
    assert_eq!(what("files", "/etc/motd (config)").as_deref(), Some("content"));
    assert_eq!(what("files", "/etc/new.conf (config)").as_deref(), Some("added"));
    assert_eq!(what("files", "/opt/tool/run"), None, "it is as it was");
    assert_eq!(what("files", "/etc/tiny.conf (config)"), None);
    assert_eq!(what("modules", "second").as_deref(), Some("removed"));
    assert_eq!(what("modules", "first (boot)"), None);
    let settings = names(&diff["settings"]);
    assert!(settings.contains(&"command line") && !settings.contains(&"kernel"), "{settings:?}");
    assert!(names(&diff["components"]).contains(&"tool"));
    let text = project.run(&["diff", "before/tiny", "tiny"]);
    text.succeeds().says(&["boot files", "console=ttyS0", "console=ttyS1", "/opt/tool/data", "removed"]);
    let differ = project.run(&["diff", "before/tiny", "tiny", "--exit-code"]);
    differ.fails(1, &["they differ"]);
    project.run(&["diff", "before/tiny", "nowhere"]).fails(1, &["nowhere"]);
}

/// An initrd of somebody else's: a plain archive, then a compressed one.
fn initrd(to: &Path, files: &[(&str, u32, &[u8])]) {
    let archive: Vec<u8> = files.iter().flat_map(|(path, mode, body)| entry(path, *mode, body)).collect();
    let archive = [archive, entry("TRAILER!!!", 0, b"")].concat();
    let mut gzip = std::process::Command::new("gzip")
        .args(["-nc"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::fs::File::create(to).unwrap())
        .spawn()
        .unwrap();
    gzip.stdin.take().unwrap().write_all(&archive).unwrap();
    assert!(gzip.wait().unwrap().success());
}

#[test]
fn initrds_of_others_are_compared_file_by_file() {
    let project = Project::new();
    let (file, program) = (0o100_644, 0o100_755);
    let module = [b'm'; 300];
    initrd(
        &project.path("a.img"),
        &[
            ("usr/lib/modules/6.12.1/kernel/fs/erofs/erofs.ko.xz", file, &module),
            ("etc/same", file, b"same"),
            ("etc/secretly", file, b"one!"),
            ("etc/mode", file, b"mode"),
            ("usr/bin/gone", program, &[1; 5000]),
        ],
    );
    initrd(
        &project.path("b.img"),
        &[
            ("usr/lib/modules/6.12.2/kernel/fs/erofs/erofs.ko.xz", file, &module),
            ("etc/same", file, b"same"),
            ("etc/secretly", file, b"two!"),
            ("etc/mode", program, b"mode"),
        ],
    );
    let diff = project.run(&["diff", "a.img", "b.img", "--json"]).succeeds().json();
    assert_eq!(diff["weight"], "unpacked");
    let files: Vec<(&str, &str)> = diff["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| (file["name"].as_str().unwrap(), file["what"].as_str().unwrap()))
        .collect();
    assert_eq!(
        files,
        [("/usr/bin/gone", "removed"), ("/etc/mode", "attributes"), ("/etc/secretly", "content")],
        "content of the same length counts, and the module of another kernel is the same module"
    );
    assert_eq!(diff["modules"], json!([]));
    assert_eq!(names(&diff["components"]), ["/usr/bin"]);
    project.run(&["diff", "a.img", "a.img", "--exit-code"]).succeeds().says(&["identical"]);
    project.write("text", "no initrd\n");
    project.run(&["diff", "a.img", "text"]).fails(1, &["`text` is no initrd"]);
}
