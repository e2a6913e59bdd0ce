//! Images pulled from a real registry server on loopback.

use bootwright::cache::Cache;
use bootwright::entry::Sha256;
use bootwright::fetch::{Context, FetchError, Settings};
use bootwright::recipe::OciSpec;
use bootwright::source::oci::Oci;
use bootwright::source::{Pin, Pool, Source, SourceError};
use bootwright::ui::{Ui, Verbosity};
use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use testkit::registry::{Registry, TokenProxy};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const REPOSITORY: &str = "team/tool";

fn tar_gz(files: &[(&str, &str)]) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for (path, body) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(body.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, path, body.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// What a layer unpacks to.
fn diff_id(layer: &[u8]) -> String {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(layer).read_to_end(&mut plain).unwrap();
    format!("sha256:{}", Sha256::of(&plain))
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{}", Sha256::of(bytes)), "size": bytes.len() })
}

/// Pushes an image of two layers with the tag `v1`, behind an index; returns its manifest's text.
pub fn push_image(registry: &Registry, marker: &str) -> String {
    let lower = tar_gz(&[("usr/bin/tool", marker), ("usr/bin/old", "x")]);
    let upper = tar_gz(&[("usr/bin/.wh.old", ""), ("etc/tool.conf", "y")]);
    let config = json!({ "os": "linux", "architecture": "amd64", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [diff_id(&lower), diff_id(&upper)] } })
    .to_string();
    for blob in [lower.as_slice(), &upper, config.as_bytes()] {
        registry.push_blob(REPOSITORY, blob);
    }
    let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": [descriptor(layer, &lower), descriptor(layer, &upper)] })
    .to_string();
    registry.push_manifest(REPOSITORY, &format!("sha256:{}", Sha256::of(manifest.as_bytes())), MANIFEST, &manifest);
    let mut entry = descriptor(MANIFEST, manifest.as_bytes());
    entry["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] }).to_string();
    registry.push_manifest(REPOSITORY, "v1", INDEX, &index);
    manifest
}

fn spec(image: String) -> OciSpec {
    OciSpec { image: Some(image), layout: None, platform: "linux/amd64".into(), plain_http: true }
}

/// Calls `work` with a source of that spec and a context with that cache folder.
fn with_source<T>(cache: &Path, offline: bool, spec: &OciSpec, work: impl FnOnce(&Oci<'_>, &Context<'_>) -> T) -> T {
    let cache = Cache::open(cache).unwrap();
    let ui = Ui { verbosity: Verbosity::Quiet, ..Ui::default() };
    let settings = Settings { jobs: 1, offline, ..Settings::default() };
    work(&Oci { spec }, &Context { cache: &cache, ui: &ui, settings: &settings, recipe_dir: Path::new("/") })
}

fn lock(cache: &Path, spec: &OciSpec) -> Result<Vec<Pin>, SourceError> {
    with_source(cache, false, spec, |source, cx| source.lock(cx))
}

fn pull(cache: &Path, offline: bool, spec: &OciSpec, pins: &[Pin]) -> Result<Pool, SourceError> {
    with_source(cache, offline, spec, |source, cx| {
        source.fetch(pins, cx)?;
        source.open(pins, cx)
    })
}

fn paths(pool: &Pool) -> Vec<&str> {
    pool.entries.iter().map(|e| e.path.as_str()).collect()
}

#[test]
fn an_image_is_pinned_and_pulled_by_digest() {
    let Some(registry) = Registry::start() else { return };
    let cache = tempfile::tempdir().unwrap();
    let manifest = push_image(&registry, "first");
    let spec = spec(format!("{}/{REPOSITORY}:v1", registry.address));
    let pins = lock(cache.path(), &spec).unwrap();
    let named: Vec<&str> = pins.iter().map(|pin| pin.name.as_str()).collect();
    assert_eq!(named, ["layer-000", "layer-001", "manifest"]);
    assert_eq!((pins[2].sha256, pins[2].version.as_str()), (Sha256::of(manifest.as_bytes()), "v1"));

    // The tag moves on, the pins do not.
    push_image(&registry, "second");
    let pool = pull(cache.path(), false, &spec, &pins).unwrap();
    assert_eq!(paths(&pool), ["etc/tool.conf", "usr/bin/tool"]);
    assert_eq!(pool.entries[1].mode, 0o755);
    assert_eq!(pull(cache.path(), true, &spec, &pins).unwrap().entries, pool.entries);
    assert_ne!(lock(cache.path(), &spec).unwrap(), pins);

    let empty = tempfile::tempdir().unwrap();
    let error = pull(empty.path(), true, &spec, &pins).unwrap_err();
    assert!(matches!(error, SourceError::Fetch(FetchError::Offline { .. })), "{error}");
    let by_digest = OciSpec { image: spec.image.as_ref().map(|i| format!("{i}@sha256:{}", pins[2].sha256)), ..spec };
    assert_eq!(lock(empty.path(), &by_digest).unwrap(), pins);
}

#[test]
fn what_a_registry_does_not_have() {
    let Some(registry) = Registry::start() else { return };
    let cache = tempfile::tempdir().unwrap();
    push_image(&registry, "x");
    let spec = spec(format!("{}/{REPOSITORY}:v1", registry.address));
    let error = lock(cache.path(), &OciSpec { platform: "linux/riscv64".into(), ..spec.clone() }).unwrap_err();
    assert!(error.to_string().ends_with("is not for `linux/riscv64` but for linux/amd64"), "{error}");
    let other = OciSpec { image: Some(format!("{}/{REPOSITORY}:v2", registry.address)), ..spec.clone() };
    let error = lock(cache.path(), &other).unwrap_err();
    assert!(matches!(error, SourceError::Fetch(FetchError::Gone { .. })), "{error}");
    let mut pins = lock(cache.path(), &spec).unwrap();
    pins[0].sha256 = Sha256::of(b"never pushed");
    let error = pull(cache.path(), false, &spec, &pins).unwrap_err();
    assert!(matches!(error, SourceError::Fetch(FetchError::Gone { .. })), "{error}");
}

#[test]
fn docker_manifests_without_an_index() {
    let Some(registry) = Registry::start() else { return };
    let cache = tempfile::tempdir().unwrap();
    let layer = tar_gz(&[("bin/x", "x")]);
    let config = json!({ "os": "linux", "architecture": "arm64",
        "rootfs": { "type": "layers", "diff_ids": [diff_id(&layer)] } });
    let config = config.to_string();
    registry.push_blob(REPOSITORY, &layer);
    registry.push_blob(REPOSITORY, config.as_bytes());
    let manifest = json!({ "schemaVersion": 2, "mediaType": DOCKER,
        "config": descriptor("application/vnd.docker.container.image.v1+json", config.as_bytes()),
        "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", &layer)] });
    registry.push_manifest(REPOSITORY, "latest", DOCKER, &manifest.to_string());
    let image = format!("{}/{REPOSITORY}", registry.address);
    let arm = OciSpec { platform: "linux/arm64".into(), ..spec(image.clone()) };
    let pins = lock(cache.path(), &arm).unwrap();
    assert_eq!(paths(&pull(cache.path(), false, &arm, &pins).unwrap()), ["bin/x"]);
    let error = lock(cache.path(), &spec(image.clone())).unwrap_err().to_string();
    assert_eq!(error, format!("`{image}`: is not for `linux/amd64` but for linux/arm64"));
}

#[test]
fn a_token_is_asked_for_where_the_registry_wants_one() {
    let Some(registry) = Registry::start() else { return };
    let cache = tempfile::tempdir().unwrap();
    push_image(&registry, "x");
    let proxy = TokenProxy::start(registry.address, None);
    let spec = spec(format!("{}/{REPOSITORY}:v1", proxy.address));
    let pins = lock(cache.path(), &spec).unwrap();
    assert_eq!(paths(&pull(cache.path(), false, &spec, &pins).unwrap()), ["etc/tool.conf", "usr/bin/tool"]);
    let seen = proxy.seen.lock().unwrap();
    let with_token = |part: &str| seen.iter().any(|(target, token)| target.contains(part) && *token);
    assert!(with_token("/manifests/v1") && with_token("/blobs/sha256:"), "{seen:?}");
}

/// Credentials come from the environment of the process: the pull runs in a child, this test program again.
#[test]
fn a_login_is_read_from_the_users_configuration() {
    let Some(registry) = Registry::start() else { return };
    push_image(&registry, "x");
    let proxy = TokenProxy::start(registry.address, Some("me:secret"));
    let dir = tempfile::tempdir().unwrap();
    let run = |auth: &str| {
        let host = proxy.address;
        let config = json!({ "auths": { host.to_string(): { "auth": auth } } });
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "oci::lock_in_a_child", "--nocapture"])
            .env("DOCKER_CONFIG", dir.path())
            .env(CHILD, format!("{host}/{REPOSITORY}:v1"))
            .output()
            .unwrap()
    };
    let good = run("bWU6c2VjcmV0");
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    let bad = run("bWU6d3Jvbmc=");
    let text = String::from_utf8_lossy(&bad.stderr);
    assert!(!bad.status.success() && text.contains("the registry refuses access"), "{text}");
}

const CHILD: &str = "BOOTWRIGHT_TEST_PULL";

/// Does nothing but in the child of the test above.
#[test]
fn lock_in_a_child() {
    let Ok(image) = std::env::var(CHILD) else { return };
    let cache = tempfile::tempdir().unwrap();
    if let Err(error) = lock(cache.path(), &spec(image)) {
        panic!("{error}");
    }
}
