//! Image layers laid over each other: ours beside umoci's and containerd's own code (tests/programs/layers).

use crate::corpus::{Ours, Verdict, archive, compare, list_disk, ours};
use bootwright::cache::Cache;
use bootwright::entry::Sha256;
use bootwright::fetch::{Context, Settings};
use bootwright::recipe::OciSpec;
use bootwright::source::Source;
use bootwright::source::archive::rootfs::Manner;
use bootwright::source::oci::Oci;
use bootwright::source::oci::manifest::{Document, candidates, parse_document};
use bootwright::source::oci::platform::Platform;
use bootwright::ui::{Ui, Verbosity};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use testkit::need::have;
use testkit::programs::test_program;

/// Whether the program with umoci and containerd in it is there.
fn have_layers() -> bool {
    have(&[&test_program("layers")])
}

/// One input: layers in words, what we make of it beside umoci, and why containerd differs from umoci, if it does.
struct Row {
    layers: &'static [&'static str],
    ours: Ours,
    containerd: Option<&'static str>,
}

const fn same(layers: &'static [&'static str]) -> Row {
    Row { layers, ours: Ours::Same, containerd: None }
}

const fn differs(layers: &'static [&'static str], why: &'static str) -> Row {
    Row { layers, ours: Ours::Same, containerd: Some(why) }
}

const SPEC: &str = "image-spec, layer.md: a whiteout hides nothing of its own layer";
const MARKED: &str = "containerd makes the folder that a whiteout stands in";

const ROWS: &[Row] = &[
    // Parents behind links.
    same(&["usr/ usr/bin/ bin->usr/bin", "bin/app=x"]),
    same(&["bin->usr/bin", "bin/app=x"]),
    same(&["bin->/usr/bin", "bin/app=x"]),
    same(&["lib->usr/lib lib/x=1"]),
    same(&["a->../../etc a/passwd=1"]),
    same(&["a->.. a/x=1"]),
    same(&["a->/ a/x=1"]),
    same(&["a->b b->a a/x=1"]),
    same(&["a/ a/x=1 b->a", "b/x=2"]),
    same(&["/abs=1 ./dot=2 a//b=3"]),
    same(&["../x=1", "a/ a/../y=1 a/../../z=2"]),
    same(&["usr/x->../../etc"]),
    // What is replaced.
    same(&["usr/ usr/lib/ lib->usr/lib", "lib/ lib/x=1"]),
    same(&["lib/x=1 lib->usr/lib"]),
    differs(&["lib/ lib->usr/lib"], "it sets the time of the folder that is no longer there"),
    same(&["a/ a/x=1 a=2"]),
    same(&["a=1 a/ a/x=2"]),
    same(&["a/ a/x=1", "a=2"]),
    same(&["a/ a/x=1", "a->b"]),
    same(&["f=1 f=2"]),
    same(&["d/@700 d/@755"]),
    same(&["d/@700 d/x=1", "d/@755 d/y=1"]),
    same(&["d/@1777 s=1@4755 g=1@2711"]),
    Row {
        layers: &["a=1", "a/x=2"],
        ours: Ours::Refused("umoci makes a folder of a file; containerd refuses too"),
        containerd: Some("it refuses"),
    },
    // Hard links.
    same(&["s->t h==s"]),
    same(&["s->t", "h==s"]),
    same(&["x=1", "y==x"]),
    same(&["x=1", ".wh.x= y==x"]),
    same(&["x=1 y==x", "y=2"]),
    same(&["x=1 y==x z==y", ".wh.x="]),
    differs(&["x=1 y==x@600"], "it gives the file the link's mode"),
    differs(&["x=1", "y==x@600"], "it gives the file the link's mode"),
    same(&["d/ h==d"]),
    same(&["h==none"]),
    same(&["h==x x=1"]),
    same(&["a/ a/x=1 b->a", "h==b/x"]),
    Row {
        layers: &["x=1 x==x"],
        ours: Ours::Taken("a name of itself changes nothing; GNU tar takes it"),
        containerd: None,
    },
    // Whiteouts.
    same(&["a/ a/x=1 a/y=1", "a/.wh.x="]),
    same(&["a/ a/b/ a/b/x=1 ab=1", ".wh.a="]),
    same(&["a/ a/x=1 a/b/ a/b/y=1", "a/ a/new=2 a/.wh..wh..opq="]),
    same(&["a/ a/x=1", "a/ a/.wh..wh..opq= a/x=2"]),
    same(&["a=1 b/", ".wh..wh..opq= c=2"]),
    same(&["x=1", ".wh.x= x=2"]),
    differs(&["x=1", "x=2 .wh.x="], SPEC),
    differs(&["a/ a/x=1", "a/y=2 .wh.a="], SPEC),
    same(&["a/ a/x=1", ".wh.a= a/ a/y=1"]),
    same(&["a/x=1", "a/.wh.x="]),
    same(&["usr/ usr/lib/ usr/lib/x=1 lib->usr/lib", "lib/.wh.x="]),
    same(&["usr/ usr/lib/ usr/lib/x=1 usr/lib/y=1 lib->usr/lib", "lib/.wh..wh..opq= lib/z=1"]),
    same(&["usr/ usr/lib/ usr/lib/x=1 lib->usr/lib", ".wh.lib="]),
    same(&["a/ a/x=1 b->a", "b/.wh..wh..opq= b/y=1"]),
    same(&["x=1", ".wh..wh.plnk/ .wh..wh.aufs="]),
    same(&["x=1", ".wh.none="]),
    differs(&["none/.wh..wh..opq="], MARKED),
    differs(&["none/.wh.x="], MARKED),
    differs(&["a=1", "a/.wh.x="], "it refuses a whiteout below a file"),
    same(&["a/ a/x=1", "a/ a/.wh..wh..opq=", "a/y=2"]),
    same(&["a/ a/b/ a/b/x=1 a/c=1", "a/.wh..wh..opq= a/b/y=2"]),
    Row {
        layers: &["x=1", ".wh.="],
        ours: Ours::Refused("it names nothing; umoci removes the whole folder"),
        containerd: Some("it refuses"),
    },
    same(&["x=1", ".wh..="]),
    Row {
        layers: &["x=1", "a/.wh...="],
        ours: Ours::Refused("it names the folder above; umoci removes all"),
        containerd: Some("it refuses"),
    },
];

/// Rows with nodes, which only root can make.
const NODE_ROWS: &[&[&str]] = &[
    &["dev/ dev/null%c dev/sda%b dev/f%p x=1"],
    &["dev/null%c n==dev/null x=1"],
    &["dev/ dev/null%c", "dev/null=1 dev/zero%c"],
    &["dev/ dev/null%c dev/x%p", ".wh.dev= y%p"],
];

/// What one of the references makes of layers.
fn theirs(reference: &str, layers: &[Vec<u8>]) -> Verdict {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path().join("root");
    std::fs::create_dir(&root).expect("a folder");
    let mut command = Command::new(test_program("layers"));
    command.arg(reference).arg(&root);
    for (i, bytes) in layers.iter().enumerate() {
        let path = dir.path().join(format!("{i}.tar"));
        std::fs::write(&path, bytes).expect("it is written");
        command.arg(path);
    }
    let output = command.output().expect("it was built by scripts/setup.sh test");
    match output.status.success() {
        true => Ok(list_disk(&root)),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
fn layers_are_laid_as_umoci_and_containerd_do() {
    if !have_layers() {
        return;
    }
    let nodes = NODE_ROWS.iter().map(|layers| Row { layers, ours: Ours::WithoutNodes, containerd: None });
    let nodes: Vec<Row> = if nix::unistd::geteuid().is_root() { nodes.collect() } else { Vec::new() };
    let mut wrong = Vec::new();
    for Row { layers, ours: expected, containerd } in ROWS.iter().chain(&nodes) {
        let bytes: Vec<Vec<u8>> = layers.iter().map(|text| archive(text)).collect();
        let (umoci, contained) = (theirs("umoci", &bytes), theirs("containerd", &bytes));
        if let Err(problem) = compare(*expected, &umoci, &ours(Manner::Layers, &bytes)) {
            wrong.push(format!("{layers:?}: {problem}"));
        }
        // Both refuse in words of their own.
        let agree = umoci.as_ref().ok() == contained.as_ref().ok();
        if agree == containerd.is_some() {
            wrong.push(format!("{layers:?}: containerd {containerd:?}\n{contained:#?}\numoci: {umoci:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_index_is_searched_as_containerd_does() {
    if !have_layers() {
        return;
    }
    let entry = |platform: &str, i: usize| {
        let digest = format!("sha256:{}", Sha256::of(&[i as u8]));
        let mut entry =
            json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 7, "digest": digest });
        let mut parts = platform.split('/');
        if let (Some(os), Some(architecture)) = (parts.next(), parts.next()) {
            entry["platform"] = json!({ "os": os, "architecture": architecture });
            if let Some(variant) = parts.next() {
                entry["platform"]["variant"] = json!(variant);
            }
        }
        entry
    };
    let held: &[&[&str]] = &[
        &["linux/amd64/v3", "linux/amd64/v2", "linux/amd64"],
        &["linux/amd64/v3", "linux/amd64/v1", "unknown/unknown"],
        &["linux/amd64/v3", "linux/amd64/v2"],
        &["linux/arm64/v8", "linux/arm64/v9", "linux/arm64"],
        &["linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm"],
        &["linux/arm/v6", "linux/arm/v8"],
        &["", "linux/amd64"],
        &["linux/riscv64", "", ""],
        &["windows/amd64", "linux/x86_64"],
        &["linux/386"],
        &["linux/ppc64le", "linux/s390x"],
        &[],
    ];
    let wanted = [
        "linux/amd64",
        "linux/amd64/v2",
        "linux/amd64/v3",
        "linux/arm64",
        "linux/arm64/v9",
        "linux/arm",
        "linux/arm/v6",
        "linux/ppc64le",
    ];
    for held in held {
        let manifests: Vec<Value> = held.iter().enumerate().map(|(i, platform)| entry(platform, i)).collect();
        let index = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
        let Ok(Document::Index(parsed)) = parse_document("index", index.as_bytes()) else { panic!("it is an index") };
        for wanted in wanted {
            let mut child = Command::new(test_program("layers"))
                .args(["platform", wanted])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("it was built by scripts/setup.sh test");
            child.stdin.take().expect("it has one").write_all(index.as_bytes()).expect("it reads");
            let output = child.wait_with_output().expect("it ends");
            let theirs = String::from_utf8(output.stdout).expect("a digest").trim().to_string();
            let found = candidates(&parsed, &Platform::parse(wanted).expect("a platform"));
            let ours = found.first().map_or(String::new(), |descriptor| descriptor.digest().to_string());
            let chosen = manifests.iter().position(|entry| entry["digest"] == theirs.as_str());
            let architecture = |platform: &'static str| platform.split('/').nth(1).unwrap_or_default();
            if chosen.is_some_and(|i| CROSS.contains(&(architecture(held[i]), architecture(wanted)))) {
                assert_eq!(ours, "", "{wanted} of {held:?}");
                continue;
            }
            assert_eq!(ours, theirs, "{wanted} of {held:?}");
        }
    }
}

/// Architectures that containerd takes for want of better, and the one that was asked for. We do not: whether a kernel runs
/// 32-bit programs is its own affair, and nobody who writes one means the other.
const CROSS: [(&str, &str); 2] = [("arm", "arm64"), ("386", "amd64")];

/// An image of one layer in a layout; `spoil` changes configuration and manifest.
fn layout(dir: &Path, spoil: impl FnOnce(&mut Value, &mut Value)) {
    std::fs::create_dir_all(dir.join("blobs/sha256")).expect("a folder");
    let blob = |kind: &str, bytes: &[u8]| {
        let sha256 = Sha256::of(bytes);
        std::fs::write(dir.join(format!("blobs/sha256/{sha256}")), bytes).expect("it is written");
        json!({ "mediaType": kind, "digest": format!("sha256:{sha256}"), "size": bytes.len() })
    };
    let layer = archive("etc/ etc/motd=hello");
    let mut config = json!({ "os": "linux", "architecture": "amd64", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", Sha256::of(&layer))] } });
    let mut manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "layers": [blob("application/vnd.oci.image.layer.v1.tar", &layer)] });
    spoil(&mut config, &mut manifest);
    manifest["config"] = blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let manifest = blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    std::fs::write(dir.join("index.json"), index.to_string()).expect("it is written");
    std::fs::write(dir.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).expect("it is written");
}

#[test]
fn sizes_and_hashes_of_an_image_are_checked_as_umoci_does() {
    if !have_layers() {
        return;
    }
    let other = format!("sha256:{}", Sha256::of(b"other"));
    type Spoil<'a> = Box<dyn FnOnce(&mut Value, &mut Value) + 'a>;
    let cases: Vec<(&str, bool, Spoil<'_>)> = vec![
        ("good", true, Box::new(|_, _| {})),
        ("another diff_id", false, Box::new(|config, _| config["rootfs"]["diff_ids"] = json!([other.clone()]))),
        ("no diff_id", false, Box::new(|config, _| config["rootfs"]["diff_ids"] = json!([]))),
        ("a larger layer", false, Box::new(|_, manifest| manifest["layers"][0]["size"] = json!(9999))),
        ("a smaller layer", false, Box::new(|_, manifest| manifest["layers"][0]["size"] = json!(512))),
        ("another layer", false, Box::new(|_, manifest| manifest["layers"][0]["digest"] = json!(other.clone()))),
    ];
    for (what, good, spoil) in cases {
        let dir = tempfile::tempdir().expect("a folder");
        let (images, root) = (dir.path().join("images"), dir.path().join("root"));
        layout(&images, spoil);
        let umoci = Command::new(test_program("layers")).arg("umoci-image").args([&root, &images]).output();
        let umoci = umoci.expect("it was built by scripts/setup.sh test");
        assert_eq!(umoci.status.success(), good, "{what}: {}", String::from_utf8_lossy(&umoci.stderr));
        let cache = Cache::open(&dir.path().join("cache")).expect("it is writable");
        let ui = Ui { verbosity: Verbosity::Quiet, ..Ui::default() };
        let settings = Settings { jobs: 1, ..Settings::default() };
        let cx = Context { cache: &cache, ui: &ui, settings: &settings, recipe_dir: dir.path() };
        let layout = Some("images".into());
        let spec = OciSpec { image: None, layout, platform: "linux/amd64".into(), plain_http: false };
        let source = Oci { spec: &spec };
        let pulled = source.lock(&cx).and_then(|pins| {
            source.fetch(&pins, &cx)?;
            source.open(&pins, &cx)
        });
        assert_eq!(pulled.is_ok(), good, "{what}: {pulled:?}");
    }
}
