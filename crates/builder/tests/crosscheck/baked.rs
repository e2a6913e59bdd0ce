//! Baked images before containerd's own code (tests/programs/store): its databases, and what a container sees beside a pull.

use crate::corpus::archive;
use bootwright::baked::bolt::{Bucket, write_database};
use bootwright::baked::{BakeError, Baked, bake};
use bootwright::cache::Cache;
use bootwright::entry::Sha256;
use bootwright::fetch::{Context, Settings};
use bootwright::pack::{PackContext, copy_body, image_of, pack_images};
use bootwright::recipe::{ImageSpec, SourceSpec};
use bootwright::segment::PackedSegment;
use bootwright::source::{BakedImage, source_of};
use bootwright::ui::{Ui, Verbosity};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use testkit::layout::{INDEX, MANIFEST, add_entry, descriptor, put_blob};
use testkit::need::have;
use testkit::programs::test_program;

const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1.overlayfs";

/// Where the program is. Views are mounted, which needs root.
fn store_program() -> Option<String> {
    let program = test_program("store");
    have(&[&program, "unshare", "mount"]).then_some(program)
}

/// Layers of an image in words; whether containerd unpacks it is up to containerd.
const ROWS: &[&[&str]] = &[
    &["bin/ bin/sh=shell@755 etc/ etc/motd=hello tmp/@1777 su=1@4755"],
    // Parents behind links, in the same layer and in a lower one.
    &["usr/ usr/bin/ bin->usr/bin bin/app=x"],
    &["usr/ usr/bin/ usr/bin/old=1 bin->usr/bin", "bin/app=x"],
    &["usr/lib/x=1 lib->/usr/lib", "lib/y=1", "usr/lib/z=1"],
    &["a->.. a/x=1", "b->/ b/y=1"],
    &["a->b b->a a/x=1"],
    // Parents that a layer does not name.
    &["data/@700 data/keep=1", "data/new=1"],
    &["data/@711", "other=1", "data/x=1", "data/y=1"],
    &["data/@700 data/sub/@750 data/sub/x=1", "data/sub/y=1"],
    &["data/@700 data/x=1", ".wh.data=", "data/y=1"],
    &["new/deep/x=1"],
    &["real/@711 lib->real", "lib/x=1"],
    &["a=1", "a/x=2"],
    // Removed, and removed and made again.
    &["a/ a/x=1 a/y=1", "a/.wh.x="],
    &["a/ a/x=1", ".wh.a="],
    &["x=1", ".wh.x= x=2"],
    &["a/ a/x=1", ".wh.a= a/ a/y=1"],
    &["x=1", ".wh.none="],
    &["x=1", "none/.wh.x="],
    &["x=1", "x=2 .wh.x="],
    &["x=1 .wh.y=", "y=2"],
    // Opaque folders, in each other and with what is made again.
    &["a/ a/x=1 a/b/ a/b/y=1", "a/ a/new=2 a/.wh..wh..opq="],
    &["a/ a/x=1 a/b/ a/b/y=1", "a/ a/.wh..wh..opq= a/b/ a/b/z=1", "a/b/w=1"],
    &["a/ a/b/ a/b/x=1 a/c=1", "a/.wh..wh..opq= a/b/y=2"],
    &["a/ a/b/ a/b/c/ a/b/c/x=1", "a/ a/b/ a/b/.wh..wh..opq= a/b/c/ a/b/c/y=1", "a/ a/.wh..wh..opq= a/b/z=1"],
    &["a=1 b/", ".wh..wh..opq= c=2"],
    // A file in the place of a folder and the other way round.
    &["a/ a/x=1", "a=2"],
    &["a=1", "a/ a/x=2"],
    &["a/ a/x=1", "a->b b/ b/y=1"],
    &["a->b b/ b/y=1", "a/ a/x=1"],
    &["d/@700 d/x=1", "d/@755 d/y=1", ".wh.d= d=1"],
    &["f=1 f=2 f->g"],
    // Hard links, within a layer and across layers.
    &["x=1 y==x d/ d/z==x"],
    &["x=1 y==x", "y=2"],
    &["x=1 y==x", ".wh.x="],
    &["x=1", "y==x"],
    &["s->t h==s"],
    &["x=1@644 y==x@600"],
    &["d/ h==d"],
    &["h==none"],
    &["../x=1 /abs=1 ./dot=2 a//b=3"],
    &["x=1", ".wh.="],
    &["x=1", ".wh..wh.plnk/ .wh..wh.aufs="],
    &["dev/ dev/null%c dev/sda%b dev/f%p"],
    &["dev/ dev/null%c", "dev/null=1 .wh.dev/x="],
    &["x=1", "", "y=1"],
];

struct Bench {
    dir: tempfile::TempDir,
    cache: Cache,
    ui: Ui,
    settings: Settings,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(&dir.path().join("cache")).expect("it is writable");
        let ui = Ui { verbosity: Verbosity::Quiet, ..Ui::default() };
        Self { cache, ui, settings: Settings { jobs: 2, ..Settings::default() }, dir }
    }

    /// A layout with an image of these layers.
    fn layout(&self, folder: &str, layers: &[Vec<u8>]) {
        let layout = self.dir.path().join(folder);
        let kind = "application/vnd.oci.image.layer.v1.tar";
        let blobs: Vec<Value> = layers.iter().map(|layer| descriptor(kind, layer)).collect();
        let diff_ids: Vec<&Value> = blobs.iter().map(|blob| &blob["digest"]).collect();
        let config = json!({ "os": "linux", "architecture": "amd64", "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids } })
        .to_string();
        let config_is = descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes());
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config_is, "layers": blobs }).to_string();
        // In an index with one that is not there, as images of several platforms are.
        let mut here = descriptor(MANIFEST, manifest.as_bytes());
        here["platform"] = json!({ "os": "linux", "architecture": "amd64" });
        let mut absent = descriptor(MANIFEST, b"somewhere else");
        absent["platform"] = json!({ "os": "linux", "architecture": "arm64", "variant": "v8" });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [absent, here] }).to_string();
        for bytes in layers.iter().map(Vec::as_slice).chain([config.as_bytes(), manifest.as_bytes(), index.as_bytes()])
        {
            put_blob(&layout, bytes);
        }
        let name = ("io.containerd.image.name", name_of(folder));
        add_entry(&layout, (name.0, &name.1), descriptor(INDEX, index.as_bytes()));
    }

    fn open(&self, folder: &str) -> BakedImage {
        let cx = Context { cache: &self.cache, ui: &self.ui, settings: &self.settings, recipe_dir: self.dir.path() };
        let spec = ImageSpec { name: name_of(folder), layout: Some(folder.into()), builtin: None, plain_http: false };
        let spec = SourceSpec::Image(spec);
        let source = source_of(&spec);
        let pins = source.lock(&cx).expect("it is a whole image");
        source.fetch(&pins, &cx).expect("it is there");
        source.open(&pins, &cx).expect("it can be read").image.expect("it is one")
    }

    fn pack(&self, baked: &Baked) -> PackedSegment {
        let cx = PackContext { cache: &self.cache, ui: &self.ui, jobs: 2 };
        pack_images(&baked.entries, cx).expect("it is packed")
    }

    /// The file of all images, taken out of its segment.
    fn write_image(&self, packed: &PackedSegment) {
        let image = image_of(packed).expect("it is in the segment");
        let path = self.dir.path().join("images.img");
        let mut out = std::fs::File::create(path).expect("it is writable");
        copy_body("images.img", &image, &mut out, |e| panic!("{e}")).expect("it is copied");
    }

    /// Runs a script in a mount namespace with an empty `/run`, in the bench's folder.
    fn run(&self, script: &str) -> Output {
        let script = format!("mount -t tmpfs tmpfs /run && mkdir -p /run/images /run/store && {script}");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", &script]).current_dir(self.dir.path());
        command.output().expect("unshare starts")
    }
}

fn name_of(folder: &str) -> String {
    format!("r.example:5000/rows/{folder}:v1")
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8").lines().map(String::from).collect()
}

#[test]
fn containers_see_baked_images_as_pulled_ones() {
    let Some(store) = store_program() else { return };
    if !nix::unistd::geteuid().is_root() || !have(&["mksquashfs"]) {
        eprintln!("skipped: views can only be mounted by root");
        return;
    }
    let bench = Bench::new();
    let mut images = Vec::new();
    let mut pulled: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (i, row) in ROWS.iter().enumerate() {
        let folder = format!("row{i}");
        bench.layout(&folder, &row.iter().map(|text| archive(text)).collect::<Vec<_>>());
        let image = bench.open(&folder);
        let theirs = bench.run(&format!("{store} pulled /run/store {folder} {}", name_of(&folder)));
        match (bake(&[&image], SNAPSHOTTER), theirs.status.success()) {
            (Ok(_), true) => {
                pulled.insert(name_of(&folder), lines(&theirs));
                images.push(image);
            }
            (Err(BakeError::Layer { .. }), false) => {}
            (ours, _) => wrong.push(format!(
                "{row:?}: we say {:?}, containerd: {}",
                ours.map(|_| "fine").map_err(|e| e.to_string()),
                String::from_utf8_lossy(&theirs.stderr)
            )),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(images.len() > 30, "most rows are images that containerd unpacks");

    let baked = bake(&images.iter().collect::<Vec<_>>(), SNAPSHOTTER).expect("each of them was baked alone");
    bench.write_image(&bench.pack(&baked));
    let seen = lines(&bench.run(&format!(
        "mount -o loop,ro images.img /run/images && cp -a /run/images/seed/. /run/store/ && {store} baked /run/store"
    )));
    for (name, theirs) in &pulled {
        let ours: Vec<String> =
            seen.iter().filter(|line| line.starts_with(&format!("view {name} "))).cloned().collect();
        assert_eq!(&ours, theirs, "{name}");
    }
    // Each by its tag, its digest and its configuration, and all of them kept when garbage was collected.
    let listed = seen.iter().filter(|line| line.starts_with("image "));
    assert!(listed.clone().all(|line| line.contains(r#""io.cri-containerd.pinned":"pinned""#)));
    let names: Vec<&str> = listed.filter_map(|line| line.split(' ').nth(1)).collect();
    for image in &images {
        let digests = [&image.documents[0], &image.config].map(|document| format!("sha256:{}", document.sha256));
        let repository = image.name.trim_end_matches(":v1");
        for name in [image.name.clone(), format!("{repository}@{}", digests[0]), digests[1].clone()] {
            assert!(names.contains(&name.as_str()), "{name} in {names:?}");
        }
    }
    let blob = format!("blob sha256:{} ", images[0].config.sha256);
    let blob = seen.iter().find(|line| line.starts_with(&blob)).expect("configurations are there");
    assert!(blob.contains(r#""containerd.io/distribution.source.r.example":"rows/row0""#), "{blob}");
}

#[test]
fn owners_times_links_and_attributes_are_those_of_the_layers() {
    let Some(store) = store_program() else { return };
    if !nix::unistd::geteuid().is_root() || !have(&["mksquashfs"]) {
        eprintln!("skipped: views can only be mounted by root");
        return;
    }
    let bench = Bench::new();
    let mut tar = tar::Builder::new(Vec::new());
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut add = |path: &str, kind, mtime: u64, records: &[(&str, &[u8])]| {
        tar.append_pax_extensions(records.iter().copied()).expect("memory takes it");
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o751);
        header.set_uid(1000);
        header.set_gid(2000);
        header.set_mtime(mtime);
        header.set_size(if kind == tar::EntryType::Regular { 3 } else { 0 });
        let body = if kind == tar::EntryType::Regular { &b"abc"[..] } else { b"" };
        tar.append_data(&mut header, path, body).expect("memory takes it");
    };
    add("d", tar::EntryType::Directory, 5, &[]);
    add("d/ping", tar::EntryType::Regular, 1_600_000_000, &[("SCHILY.xattr.security.capability", &capability)]);
    add("d/user", tar::EntryType::Regular, 4_000_000_000, &[("SCHILY.xattr.user.note", b"x")]);
    add("d/fraction", tar::EntryType::Regular, 1, &[("mtime", b"1650000000.75")]);
    add("d/trusted", tar::EntryType::Regular, 0, &[("SCHILY.xattr.trusted.overlay.opaque", b"y")]);
    let layer = tar.into_inner().expect("memory takes it");
    bench.layout("kept", &[layer]);
    let pulled = lines(&bench.run(&format!("{store} pulled /run/store kept {}", name_of("kept"))));
    assert!(pulled.iter().any(|line| line.contains("security.capability=0100000200040000")), "{pulled:?}");
    let baked = bake(&[&bench.open("kept")], SNAPSHOTTER).expect("it is unpacked");
    bench.write_image(&bench.pack(&baked));
    let seen = lines(&bench.run(&format!(
        "mount -o loop,ro images.img /run/images && cp -a /run/images/seed/. /run/store/ && {store} baked /run/store"
    )));
    let of_tag = format!("view {} ", name_of("kept"));
    let ours: Vec<&String> = seen.iter().filter(|line| line.starts_with(&of_tag)).collect();
    assert_eq!(ours, pulled.iter().collect::<Vec<_>>());
}

fn bucket(depth: u32) -> BoxedStrategy<Bucket> {
    let key = || prop::collection::vec(any::<u8>(), 1..60);
    let value =
        prop_oneof![3 => prop::collection::vec(any::<u8>(), 0..200), 1 => prop::collection::vec(any::<u8>(), 0..9000)];
    let values = prop::collection::btree_map(key(), value, 0..120);
    let below: BoxedStrategy<BTreeMap<Vec<u8>, Bucket>> = match depth {
        0 => Just(BTreeMap::new()).boxed(),
        _ => prop::collection::btree_map(key(), bucket(depth - 1), 0..6).boxed(),
    };
    (any::<u64>(), values, below)
        .prop_map(|(sequence, values, below)| {
            let mut bucket = Bucket::default();
            bucket.sequence = sequence;
            for (key, inner) in below {
                *bucket.bucket([b"b".as_slice(), &key].concat()) = inner;
            }
            values.into_iter().for_each(|(key, value)| bucket.put([b"v".as_slice(), &key].concat(), value));
            bucket
        })
        .boxed()
}

/// As the program prints what bbolt finds. At the top bbolt has buckets alone.
fn dump(bucket: &Bucket, depth: usize, out: &mut Vec<String>) {
    for (key, item) in bucket.iter() {
        match item {
            Ok(value) => out.push(format!("V {depth} {} {}", hex::encode(key), hex::encode(value))),
            Err(inner) => {
                out.push(format!("B {depth} {} {}", hex::encode(key), inner.sequence));
                dump(inner, depth + 1, out);
            }
        }
    }
}

#[test]
fn databases_are_whole_before_and_after_bbolt_wrote_into_them() {
    let program = test_program("store");
    if !have(&[&program]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("test.db");
    let strategy = prop::collection::btree_map(prop::collection::vec(any::<u8>(), 1..40), bucket(3), 0..5);
    proptest!(ProptestConfig::with_cases(24), |(buckets in strategy)| {
        let mut root = Bucket::default();
        for (key, inner) in buckets {
            *root.bucket(key) = inner;
        }
        std::fs::write(&path, write_database(&root)).expect("it is writable");
        let output = Command::new(&program).arg("check").arg(&path).output().expect("it starts");
        let mut expected = Vec::new();
        dump(&root, 0, &mut expected);
        prop_assert_eq!(lines(&output), expected);
    });
    // Branches of branches.
    let mut root = Bucket::default();
    for number in 0..60_000u32 {
        root.bucket("many").put(Sha256::of(&number.to_le_bytes()).to_string(), number.to_string());
    }
    std::fs::write(&path, write_database(&root)).expect("it is writable");
    let output = Command::new(&program).arg("check").arg(&path).output().expect("it starts");
    assert_eq!(lines(&output).len(), 60_001);
}

/// The databases are laid out for the releases that the check of recipes knows: what judges them here is one of those.
#[test]
fn the_judge_is_the_containerd_of_the_worker() {
    let program = test_program("store");
    if !have(&[&program]) {
        return;
    }
    let version = lines(&Command::new(&program).arg("version").output().expect("it starts")).remove(0);
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/worker.lock");
    let lock = std::fs::read_to_string(lock).expect("it is committed");
    assert!(lock.contains(&format!("version = \"{version}\"")), "{version}");
}
