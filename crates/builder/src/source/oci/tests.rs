//! Layout directories, good and bad. Registries are tested in `tests/sources/oci.rs`.

use super::*;
use crate::cache::Cache;
use crate::entry::Kind;
use crate::fetch::Settings;
use crate::ui::{Ui, Verbosity};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// An OCI layout being written, and the cache that it is read into.
struct World {
    dir: TempDir,
    cache: Cache,
    ui: Ui,
    settings: Settings,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("images/blobs/sha256")).unwrap();
        let cache = Cache::open(&dir.path().join("cache")).unwrap();
        let ui = Ui { verbosity: Verbosity::Quiet, ..Ui::default() };
        let world = Self { cache, ui, settings: Settings { jobs: 1, ..Settings::default() }, dir };
        world.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        world
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.dir.path().join("images").join(name), bytes).unwrap();
    }

    /// Stores a blob and returns its descriptor.
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let sha256 = Sha256::of(bytes);
        self.write(&format!("blobs/sha256/{sha256}"), bytes);
        json!({ "mediaType": media_type, "digest": format!("sha256:{sha256}"), "size": bytes.len() })
    }

    /// An image of layers that were written before.
    fn manifest(&self, platform: &str, layers: &[Value]) -> Value {
        let diff_ids: Vec<String> = layers.iter().map(|layer| self.diff_id(layer)).collect();
        self.manifest_of(platform, layers, &diff_ids)
    }

    /// What a layer unpacks to.
    fn diff_id(&self, layer: &Value) -> String {
        let path = self.dir.path().join("images").join(blob_path(&layer["digest"]));
        let mut plain = Vec::new();
        let file = std::fs::File::open(path).unwrap();
        std::io::copy(&mut super::super::archive::decompress(file, 1).unwrap(), &mut plain).unwrap();
        format!("sha256:{}", Sha256::of(&plain))
    }

    fn manifest_of(&self, platform: &str, layers: &[Value], diff_ids: &[String]) -> Value {
        let (os, architecture) = platform.split_once('/').unwrap();
        let config =
            json!({ "os": os, "architecture": architecture, "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let manifest = json!({ "schemaVersion": 2, "mediaType": manifest::OCI_MANIFEST, "config": config,
            "layers": layers, "annotations": { "org.opencontainers.image.licenses": "MIT" } });
        self.blob(manifest::OCI_MANIFEST, manifest.to_string().as_bytes())
    }

    fn index(&self, manifests: &[Value]) {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        self.write("index.json", index.to_string().as_bytes());
    }

    fn context(&self) -> Context<'_> {
        Context { cache: &self.cache, ui: &self.ui, settings: &self.settings, recipe_dir: self.dir.path() }
    }

    fn pull(&self, layout: &str) -> Result<Pool, SourceError> {
        let layout = Some(layout.into());
        let spec = OciSpec { image: None, layout, platform: "linux/amd64".into(), plain_http: false };
        let (source, cx) = (Oci { spec: &spec }, self.context());
        let pins = source.lock(&cx)?;
        assert!(source.is_current(&pins, &cx)? && !source.is_current(&pins[1..], &cx)?);
        source.fetch(&pins, &cx)?;
        source.open(&pins, &cx)
    }

    #[track_caller]
    fn refused(&self, expected: &str) {
        let error = self.pull("images").unwrap_err().to_string();
        let shown = error.replace(&format!("{}/", self.dir.path().display()), "");
        assert_eq!(shown, expected);
    }
}

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, body) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(body.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, path, body.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn blob_path(digest: &Value) -> String {
    format!("blobs/sha256/{}", digest.as_str().unwrap().strip_prefix("sha256:").unwrap())
}

fn paths(pool: &Pool) -> Vec<&str> {
    pool.entries.iter().map(|e| e.path.as_str()).collect()
}

fn with(mut descriptor: Value, key: &str, value: Value) -> Value {
    descriptor[key] = value;
    descriptor
}

#[test]
fn layers_of_every_compression() {
    let world = World::new();
    let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let layers = [
        world.blob(TAR, &tar(&[("bin/a", "1"), ("bin/b", "1")])),
        world.blob(docker, &gzip(&tar(&[("bin/.wh.a", ""), ("bin/c", "2")]))),
        world.blob(&format!("{TAR}+zstd"), &zstd::encode_all(tar(&[("bin/d", "3")]).as_slice(), 1).unwrap()),
    ];
    world.index(&[world.manifest("linux/amd64", &layers)]);
    let pool = world.pull("images").unwrap();
    assert_eq!(paths(&pool), ["bin/b", "bin/c", "bin/d"]);
    let facts = &pool.packages[0];
    assert_eq!((facts.name.as_str(), facts.license.as_deref()), ("images", Some("MIT")));
}

#[test]
fn the_named_image_for_the_platform() {
    let world = World::new();
    let image = |platform: &str, file: &str| {
        let (os, architecture) = platform.split_once('/').unwrap();
        let platform = json!({ "os": os, "architecture": architecture });
        let layer = world.blob(TAR, &tar(&[(file, "")]));
        with(world.manifest(&format!("{os}/{architecture}"), &[layer]), "platform", platform)
    };
    let inner = json!({ "schemaVersion": 2, "manifests": [image("linux/arm64", "arm"), image("linux/amd64", "amd")] });
    let inner = world.blob(manifest::OCI_INDEX, inner.to_string().as_bytes());
    let named = |d: Value, name: &str| with(d, "annotations", json!({ "org.opencontainers.image.ref.name": name }));
    world.index(&[named(inner, "v1"), named(image("linux/riscv64", "riscv"), "v2")]);
    assert_eq!(paths(&world.pull("images:v1").unwrap()), ["amd"]);
    let error = world.pull("images:v2").unwrap_err().to_string();
    assert_eq!(error, "`images:v2`: is not for `linux/amd64` but for linux/riscv64");
    let error = world.pull("images:v3").unwrap_err().to_string();
    assert!(error.ends_with("images`: holds no image called `v3`"), "{error}");
}

#[test]
fn artifacts_are_files() {
    let world = World::new();
    let file = |title: Value, bytes: &[u8]| {
        with(world.blob("text/plain", bytes), "annotations", json!({ "org.opencontainers.image.title": title }))
    };
    let artifact = |layers: &[Value]| {
        let config = world.blob("application/vnd.oci.empty.v1+json", b"{}");
        let manifest = json!({ "schemaVersion": 2, "artifactType": "x/y", "config": config, "layers": layers });
        world.index(&[world.blob(manifest::OCI_MANIFEST, manifest.to_string().as_bytes())]);
    };
    artifact(&[file(json!("etc/motd"), b"hello"), file(json!("etc/none"), b"")]);
    let pool = world.pull("images").unwrap();
    assert_eq!(paths(&pool), ["etc/motd", "etc/none"]);
    let Kind::File(body) = &pool.entries[0].kind else { panic!() };
    assert_eq!((body.sha256, body.size, pool.entries[0].mode), (Sha256::of(b"hello"), 5, 0o644));

    artifact(&[file(json!("../motd"), b"hello")]);
    world.refused("`images`: a path with `..` at `../motd`");
    let untitled = world.blob("text/plain", b"x");
    artifact(std::slice::from_ref(&untitled));
    let digest = untitled["digest"].as_str().unwrap();
    world.refused(&format!("`images`: its blob `{digest}` of the type `text/plain` is no layer and has no title"));
}

#[test]
fn every_digest_is_checked() {
    let layer = tar(&[("a", "")]);
    let sha256 = Sha256::of(&layer);
    let world = World::new();
    let manifest = world.manifest("linux/amd64", &[world.blob(TAR, &layer)]);
    world.index(std::slice::from_ref(&manifest));
    let spoiled = |bytes: &[u8]| bytes.iter().map(|b| b ^ 1).collect::<Vec<u8>>();

    world.write(&format!("blobs/sha256/{sha256}"), &spoiled(&layer));
    let got = Sha256::of(&spoiled(&layer));
    world.refused(&format!("`images/blobs/sha256/{sha256}` has the wrong hash: expected {sha256}, got {got}"));
    world.write(&format!("blobs/sha256/{sha256}"), &layer[..512]);
    world.refused(&format!(
        "`images/blobs/sha256/{sha256}` has the wrong size: expected {} bytes, got 512",
        layer.len()
    ));
    world.write(&format!("blobs/sha256/{sha256}"), &layer);
    assert!(world.pull("images").is_ok());

    let place = world.dir.path().join("images").join(blob_path(&manifest["digest"]));
    let good = std::fs::read(&place).unwrap();
    std::fs::write(&place, spoiled(&good)).unwrap();
    let error = world.pull("images").unwrap_err().to_string();
    assert!(error.starts_with("`images` has the wrong hash: expected "), "{error}");
    std::fs::remove_file(&place).unwrap();
    let error = world.pull("images").unwrap_err().to_string();
    assert!(error.starts_with("cannot read `") && error.contains("/images/blobs/sha256/"), "{error}");
}

#[test]
fn what_layers_unpack_to_and_their_sizes_are_checked_warm_as_cold() {
    let world = World::new();
    let layer = world.blob(TAR, &gzip(&tar(&[("a", "1")])));
    let good = world.diff_id(&layer);
    let refused = |world: &World, expected: &str| {
        // The second time the cache holds all of it.
        for _ in 0..2 {
            let error = world.pull("images").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    };
    let wrong = format!("sha256:{}", Sha256::of(b"else"));
    world.index(&[world.manifest_of("linux/amd64", std::slice::from_ref(&layer), std::slice::from_ref(&wrong))]);
    refused(&world, &format!("unpacks to {}, and its configuration says {}", &good[7..], &wrong[7..]));
    world.index(&[world.manifest_of("linux/amd64", std::slice::from_ref(&layer), &[good.clone(), good.clone()])]);
    refused(&world, "it has 1 layers, and its configuration speaks of 2");
    world.index(&[world.manifest_of("linux/amd64", std::slice::from_ref(&layer), &[])]);
    refused(&world, "it has 1 layers, and its configuration speaks of 0");

    world.index(&[world.manifest("linux/amd64", std::slice::from_ref(&layer))]);
    assert_eq!(paths(&world.pull("images").unwrap()), ["a"]);
    let size = layer["size"].as_u64().unwrap();
    let larger = with(layer.clone(), "size", json!(size + 1));
    world.index(&[world.manifest_of("linux/amd64", &[larger], std::slice::from_ref(&good))]);
    refused(&world, &format!("has the wrong size: expected {} bytes, got {size}", size + 1));
}

#[test]
fn what_follows_the_end_of_a_layer_is_part_of_its_hash() {
    let world = World::new();
    let padded = [tar(&[("a", "1")]), vec![0; 9000]].concat();
    world.index(&[world.manifest("linux/amd64", &[world.blob(TAR, &padded)])]);
    assert_eq!(paths(&world.pull("images").unwrap()), ["a"]);
    let packed = gzip(&padded);
    // Without the checksum at its end: the members are there, the hash cannot be known.
    let (layer, good) = (world.blob(TAR, &packed[..packed.len() - 8]), format!("sha256:{}", Sha256::of(&padded)));
    world.index(&[world.manifest_of("linux/amd64", &[layer], &[good])]);
    let error = world.pull("images").unwrap_err().to_string();
    assert!(error.contains("unpacks to nothing whole"), "{error}");
}

#[test]
fn an_index_is_searched_for_the_platform() {
    let world = World::new();
    let plain = |file: &str| world.manifest("linux/amd64", &[world.blob(TAR, &tar(&[(file, "")]))]);
    let named = |manifest: Value, os: &str, architecture: &str, variant: &str| {
        with(manifest, "platform", json!({ "os": os, "architecture": architecture, "variant": variant }))
    };
    let attestation = with(
        named(world.blob(manifest::OCI_MANIFEST, b"{}"), "unknown", "unknown", ""),
        "annotations",
        json!({ "vnd.docker.reference.type": "attestation-manifest" }),
    );
    let levels = [
        attestation.clone(),
        named(plain("v3"), "linux", "amd64", "v3"),
        named(plain("v2"), "linux", "amd64", "v2"),
        named(plain("v1"), "linux", "amd64", "v1"),
    ];
    world.index(&levels);
    assert_eq!(paths(&world.pull("images").unwrap()), ["v1"]);
    world.index(&levels[..3]);
    world.refused("`images`: is not for `linux/amd64` but for unknown/unknown, linux/amd64/v3, linux/amd64/v2");
    // What names no platform says it in its configuration; an artifact beside it is none of the image's.
    let arm = world.manifest("linux/arm64", &[]);
    let note = with(world.blob("text/plain", b"x"), "annotations", json!({ "org.opencontainers.image.title": "note" }));
    let artifact = json!({ "schemaVersion": 2, "config": world.blob("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [note] });
    let artifact = world.blob(manifest::OCI_MANIFEST, artifact.to_string().as_bytes());
    world.index(&[artifact.clone(), arm, plain("bare"), attestation]);
    assert_eq!(paths(&world.pull("images").unwrap()), ["bare"]);
    world.index(&[artifact]);
    assert_eq!(paths(&world.pull("images").unwrap()), ["note"]);
}

#[test]
fn what_is_no_layout_or_no_image_for_us() {
    let world = World::new();
    world.index(&[world.manifest("linux/s390x", &[])]);
    world.refused("`images`: is not for `linux/amd64` but for linux/s390x");
    world.index(&[]);
    world.refused("`images`: is not for `linux/amd64` but for nothing");
    world.write("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#);
    world.refused("`images`: is no OCI layout of version 1.0.0");
    std::fs::remove_file(world.dir.path().join("images/oci-layout")).unwrap();
    assert!(world.pull("images").unwrap_err().to_string().starts_with("cannot read `"));
    assert!(!Path::new("images").exists());
}

#[test]
fn what_is_not_in_the_cache_is_named() {
    let mut world = World::new();
    let image = Some("r.example/a:1".into());
    let spec = OciSpec { image, layout: None, platform: "linux/amd64".into(), plain_http: false };
    world.settings.offline = true;
    let error = Oci { spec: &spec }.lock(&world.context()).unwrap_err().to_string();
    assert_eq!(error, "`r.example/a:1` is not in the cache and --offline is set");
}
