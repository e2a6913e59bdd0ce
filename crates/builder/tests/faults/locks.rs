//! The lock and the recipe part ways; local files change.

use bootwright::entry::Sha256;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use testkit::http::{PageServer, Step};
use testkit::project::{Project, Run};

#[test]
fn a_build_without_changes_leaves_everything_alone() {
    let project = Project::new();
    let image = project.good_build();
    let stamps = || -> BTreeMap<PathBuf, (u64, i64, i64)> {
        let files = ["out", "recipes"].map(|dir| walkdir::WalkDir::new(project.path(dir)));
        let entries = files.into_iter().flatten().map(|e| e.unwrap());
        entries
            .map(|e| (e.path().into(), e.metadata().map(|m| (m.ino(), m.mtime(), m.mtime_nsec())).unwrap()))
            .collect()
    };
    let before = stamps();
    for more in [&[][..], &["--locked"], &["--locked", "--offline"]] {
        project.build(more).succeeds().says(&["out/tiny: nothing changed"]);
        assert_eq!(stamps(), before, "{more:?}");
    }
    assert!(project.build(&["--json"]).succeeds().json()["unchanged"].as_bool().unwrap());
    project.image().is_like(&image);
    // A file of the image that somebody damaged is made anew.
    project.write("out/tiny/boot.ipxe", "damaged");
    project.good_build().is_like(&image);
}

/// The sources of two components change: kind of the key, value and component are named.
fn move_tool(project: &Project) {
    project.edit("to = \"opt/tool\"", "to = \"opt/moved\"");
}

fn assert_names_the_change(run: &Run) {
    run.fails(
        2,
        &[
            "the lock `",
            "recipes/tiny.lock` does not fit the recipe",
            "component `tool`: `path.to` changed from \"opt/tool\" to \"opt/moved\"",
            "bootwright lock --recipe tiny",
        ],
    );
    assert!(!run.err.contains("kernel"), "only what changed is named:\n{}", run.err);
}

#[test]
fn a_stale_lock_fails_when_locked_and_is_renewed_otherwise() {
    let undisturbed = Project::new();
    move_tool(&undisturbed);
    let expected = undisturbed.good_build();

    let project = Project::new();
    let old = project.good_build();
    let lock = project.read("recipes/tiny.lock");
    move_tool(&project);
    assert_names_the_change(&project.build(&["--locked"]));
    project.image().is_like(&old);
    assert_eq!(project.read("recipes/tiny.lock"), lock, "`--locked` does not touch the lock");

    let run = project.build(&["--json"]);
    run.succeeds().says(&["component `tool`: `path.to` changed from"]);
    let changes = run.json()["lock_changes"].clone();
    assert_eq!(changes.as_array().map(Vec::len), Some(1), "just that is renewed: {changes}");
    assert_eq!(changes[0]["component"], "tool");
    project.image().is_like(&expected);
    project.build(&["--locked"]).succeeds().says(&["nothing changed"]);
}

#[test]
fn components_that_come_and_go_are_named() {
    let project = Project::new();
    project.good_build();
    project.add("[[component]]\nname = \"more\"\npath = { path = \"../tool/data\", to = \"opt/more\" }\n");
    project.build(&["--locked"]).fails(2, &["component `more` is new in the recipe"]);
    project.build(&[]).succeeds().says(&["the lock was renewed:", "more/../tool/data: added, 20 kB"]);
    project.edit("[[component]]\nname = \"more\"\npath = { path = \"../tool/data\", to = \"opt/more\" }\n", "");
    project.build(&["--locked"]).fails(2, &["component `more` is gone from the recipe"]);
    project.build(&[]).succeeds().says(&["more/../tool/data: removed, 20 kB"]);
    project.image().is_like(&Project::new().good_build());
}

#[test]
fn no_lock_at_all_fails_when_locked() {
    let project = Project::new();
    project.build(&["--locked"]).fails(2, &["component `kernel` is new", "component `tool` is new"]);
    assert!(!project.path("recipes/tiny.lock").exists() && !project.path("out").exists());
    project.good_build().is_like(&Project::new().good_build());
}

#[test]
fn a_damaged_lock_is_located() {
    let project = Project::new();
    let image = project.good_build();
    let lock = project.read("recipes/tiny.lock");
    for (bad, said) in [
        (lock.replacen("version = 1", "version = \"", 1), "recipes/tiny.lock`, line 2: "),
        (lock.replacen("version = 1", "version = 2", 1), "has layout 2, expected 1"),
        (lock.clone() + "[[component]]\nnome = 1\n", "line "),
    ] {
        project.write("recipes/tiny.lock", bad);
        project.build(&[]).fails(2, &["lock `", said]);
        project.image().is_like(&image);
    }
    project.write("recipes/tiny.lock", lock);
    project.good_build().is_like(&image);
}

#[test]
fn changed_local_files_are_pinned_anew_and_refused_when_locked() {
    let undisturbed = Project::new();
    undisturbed.write("tool/data", "changed");
    let expected = undisturbed.good_build();

    let project = Project::new();
    let old = project.good_build();
    project.write("tool/data", "changed");
    let run = project.build(&["--locked"]);
    run.fails(
        3,
        &["component `tool` (recipes/tiny.toml:", "`../tool`: it is not what the lock pins", "bootwright lock"],
    );
    project.image().is_like(&old);
    let run = project.build(&[]);
    run.succeeds().says(&["component `tool` changed: pinning it anew", "tool/../tool: new content (-20 kB)"]);
    project.image().is_like(&expected);
}

#[test]
fn a_local_path_that_is_gone_is_named() {
    let project = Project::new();
    let image = project.good_build();
    std::fs::rename(project.path("tool"), project.path("away")).unwrap();
    for more in [&[][..], &["--locked"]] {
        let run = project.build(more);
        run.fails(2, &["/tool` is not there", "[recipes/tiny.toml:14:17]"]);
        project.image().is_like(&image);
    }
    std::fs::rename(project.path("away"), project.path("tool")).unwrap();
    project.good_build().is_like(&image);
}

/// What a build leaves that was killed while it wrote the lock.
#[test]
fn a_half_written_lock_is_written_over() {
    let expected = Project::new().good_build();
    let project = Project::new();
    project.write("recipes/.tiny.lock.new", vec![b'#'; 100_000]);
    project.good_build().is_like(&expected);
    assert_eq!(testkit::project::names(&project.path("recipes")), ["tiny.lock", "tiny.toml"]);
    project.build(&["--locked"]).succeeds();
}

/// A registry that has one image of one file, and nothing that it had before; its address.
fn publish(registry: &PageServer, content: &str) -> String {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, "pulled", content.as_bytes()).unwrap();
    let layer = tar.into_inner().unwrap();
    // A layer that is not compressed is its own diff.
    let diff = Sha256::of(&layer);
    let config =
        format!(r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["sha256:{diff}"]}}}}"#);
    let descriptor = |kind: &str, bytes: &[u8]| {
        let (digest, size) = (Sha256::of(bytes), bytes.len());
        format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"sha256:{digest}","size":{size}}}"#)
    };
    let (config_is, layer_is) = (descriptor("config.v1+json", config.as_bytes()), descriptor("layer.v1.tar", &layer));
    let manifest = format!(r#"{{"schemaVersion":2,"config":{config_is},"layers":[{layer_is}]}}"#);
    let page = |path: String, body: &[u8]| registry.page(&format!("/v2/lab/{path}"), body, &[Step::Serve]);
    page(format!("blobs/sha256:{}", Sha256::of(&layer)), &layer);
    page(format!("blobs/sha256:{}", Sha256::of(config.as_bytes())), config.as_bytes());
    page(format!("manifests/sha256:{}", Sha256::of(manifest.as_bytes())), manifest.as_bytes());
    let tag = page("manifests/v1".into(), manifest.as_bytes());
    tag.trim_start_matches("http://").replace("/v2/lab/manifests/v1", "/lab:v1")
}

fn unpublish(registry: &PageServer, lock: &str) {
    for digest in lock.lines().filter_map(|line| line.strip_prefix("sha256 = ")) {
        for kind in ["blobs", "manifests"] {
            registry.page(&format!("/v2/lab/{kind}/sha256:{}", digest.trim_matches('"')), b"", &[Step::Status(404)]);
        }
    }
}

#[test]
fn what_its_place_dropped_is_renewed_together_with_what_changed_here() {
    let (project, registry) = (Project::new(), PageServer::start());
    let image = publish(&registry, "first");
    project.add(&format!(
        "[[component]]\nname = \"pulled\"\npaths = [\"pulled\"]\noci = {{ image = \"{image}\", plain_http = true }}\n"
    ));
    project.build(&[]).succeeds();
    let lock = project.read("recipes/tiny.lock");
    unpublish(&registry, &lock);
    publish(&registry, "second");
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    std::fs::remove_dir_all(project.path("out")).unwrap();
    project.build(&["--locked"]).fails(3, &["component `pulled`", "bootwright lock"]);
    assert_eq!(project.read("recipes/tiny.lock"), lock);

    project.write("tool/data", "changed here");
    let run = project.build(&[]);
    run.succeeds().says(&["component `tool` changed: pinning it anew", "component `pulled`: ", ": pinning it anew"]);
    let renewed = project.read("recipes/tiny.lock");
    let hashes =
        |text: &str| text.lines().filter(|line| line.starts_with("sha256 = ")).map(String::from).collect::<Vec<_>>();
    assert_ne!(hashes(&renewed), hashes(&lock));
    let changed = run.out.clone() + &run.err;
    for name in ["tool", "pulled"] {
        assert!(changed.matches(name).count() > 1, "the difference names `{name}`:\n{changed}");
    }
    project.build(&["--locked"]).succeeds().says(&["nothing changed"]);
}
