//! Which containerd, and which configuration of it, finds baked images.

use super::*;
use crate::tree::fixture::{Fixture, component, file};
use bootwright_contract::fixture::service;

const CONFIG_TEXT: &str = "[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = \"r.example/pause:1\"\n";

/// A pin of containerd's module.
fn pin(version: &str) -> Pin {
    let sha256 = crate::entry::Sha256::of(b"");
    Pin { name: MODULE.into(), version: version.into(), size: 0, sha256, detail: Default::default() }
}

/// What is found with these files beside the program, and `exec` starting it; or what is said.
fn found(files: &[(&str, &str)], exec: &[&str], version: &str) -> Result<Runtime, String> {
    let mut fixture = Fixture::new();
    let mut entries = vec![file("usr/bin/containerd", "#!/proc/self/exe", 0o755)];
    entries.extend(files.iter().map(|(path, text)| file(path, text, 0o644)));
    fixture.add(component("containerd", &[]), entries);
    fixture.recipe.services = vec![service("containerd", exec)];
    let pins = [pin(version)];
    let tree = fixture.build().expect("the tree is whole").tree;
    find_runtime(&fixture.recipe, &tree, |_| &pins, &["r.example/pause:1"]).map_err(|e| e.to_string())
}

const EXEC: [&str; 1] = ["/usr/bin/containerd"];
const PLACE: &str = "etc/containerd/config.toml";

#[test]
fn the_places_are_those_of_the_configuration() {
    let usual = Runtime { root: ROOT.into(), snapshotter: snapshotter_root() };
    assert_eq!(found(&[(PLACE, CONFIG_TEXT)], &EXEC, "v2.4.2"), Ok(usual.clone()));
    let old = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"r.example/pause:1\"\n";
    assert_eq!(found(&[(PLACE, old)], &EXEC, "v2.2.0"), Ok(usual));
    let text = format!(
        "root = \"/data\"\n{CONFIG_TEXT}[plugins.'io.containerd.snapshotter.v1.overlayfs']\nroot_path = \"/data/a/b\"\n"
    );
    let other = Runtime { root: "/data".into(), snapshotter: "a/b".into() };
    let exec = ["/usr/bin/containerd", "--config=/etc/c.toml"];
    assert_eq!(found(&[("etc/c.toml", &text)], &exec, "v2.3.9"), Ok(other));
    let exec = ["/usr/bin/containerd", "--root", "/x", "-c", "/etc/c.toml"];
    assert_eq!(found(&[("etc/c.toml", CONFIG_TEXT)], &exec, "v2.3.9").map(|found| found.root), Ok("/x".into()));
    let import = "imports = [\"/etc/containerd/conf.d/*.toml\"]\n";
    let files = [(PLACE, import), ("etc/containerd/conf.d/a.toml", CONFIG_TEXT)];
    assert!(found(&files, &EXEC, "v2.4.2").is_ok());
}

#[test]
fn what_would_not_find_baked_images_is_refused() {
    let with = |text: &str| found(&[(PLACE, &format!("{text}\n{CONFIG_TEXT}"))], &EXEC, "v2.4.2").unwrap_err();
    for (text, problem) in [
        (
            "[plugins.'io.containerd.cri.v1.images']\nsnapshotter = \"native\"",
            "`/etc/containerd/config.toml`: `plugins.io.containerd.cri.v1.images.snapshotter` is \"native\"",
        ),
        (
            "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.crun]\nsnapshotter = \"erofs\"",
            "`/etc/containerd/config.toml`: `plugins.io.containerd.cri.v1.runtime.containerd.runtimes.crun.snapshotter` is \"erofs\"",
        ),
        (
            "disabled_plugins = [\"io.containerd.snapshotter.v1.overlayfs\"]",
            "`/etc/containerd/config.toml` switches `io.containerd.snapshotter.v1.overlayfs` off",
        ),
        (
            "[plugins.'io.containerd.snapshotter.v1.overlayfs']\nroot_path = \"/var/lib/layers\"",
            "`/etc/containerd/config.toml`: `root_path` is \"/var/lib/layers\", which is not below",
        ),
        ("root = ", "`/etc/containerd/config.toml` is no configuration of containerd: "),
    ] {
        assert!(with(text).starts_with(problem), "{text}: {}", with(text));
    }
    let said = |files: &[(&str, &str)], version: &str| found(files, &EXEC, version).unwrap_err();
    assert!(said(&[], "v2.4.2").contains("is not in the image"));
    assert!(said(&[(PLACE, "version = 3")], "v2.4.2").contains("does not say which image sandboxes have"));
    let other = CONFIG_TEXT.replace("pause:1", "pause:2");
    assert!(said(&[(PLACE, &other)], "v2.4.2").starts_with("pods need `r.example/pause:2` for their sandboxes"));
    for version in ["v1.7.24", "v2.5.0", "v2.20.1"] {
        let said = said(&[(PLACE, CONFIG_TEXT)], version);
        let expected = format!(
            "images are baked in for containerd 2.2, 2.3, 2.4, and component `containerd` has {}",
            &version[1..]
        );
        assert_eq!(said, expected);
    }
}

#[test]
fn releases_are_read_from_what_names_them() {
    for (text, release) in [
        ("v2.4.2", Some("2.4.2")),
        ("2.4.2~ds1-3", Some("2.4.2")),
        ("https://h.example/v2.2.1/containerd-static-2.2.1-linux-amd64.tar.gz", Some("2.2.1")),
        ("https://192.0.2.1/containerd-2.4.2.tar", Some("2.4.2")),
        ("containerd", None),
    ] {
        assert_eq!(release_in(text).as_deref(), release, "{text}");
    }
}
