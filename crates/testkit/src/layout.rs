//! OCI layouts (image-spec, image-layout.md) with images of one layer.

use crate::folders::new_folder;
use crate::worker::programs_of;
use bootwright::entry::Sha256;
use serde_json::{Value, json};
use std::path::Path;

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image that was put into a layout.
#[derive(Debug)]
pub struct PutImage {
    pub manifest: Sha256,
    pub config: Sha256,
    pub layer: Sha256,
}

/// Adds an image to a layout, which is made when it is missing. `name`: an annotation of its entry in `index.json`. The files are
/// programs; `command` is what a container of it runs.
pub fn add_image(layout: &Path, name: (&str, &str), files: &[(&str, &[u8])], command: &[&str]) -> PutImage {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, body) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(body.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, path, *body).expect("memory takes it");
    }
    let layer = tar.into_inner().expect("memory takes it");
    add_layer(layout, name, (LAYER, &layer, Sha256::of(&layer)), command)
}

/// The same of a layer that is there: its media type, its bytes, and the digest of what they are unpacked.
pub fn add_layer(
    layout: &Path,
    name: (&str, &str),
    (media_type, layer, diff_id): (&str, &[u8], Sha256),
    command: &[&str],
) -> PutImage {
    let config = json!({ "os": "linux", "architecture": "amd64", "config": { "Entrypoint": command },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] } });
    let config = config.to_string().into_bytes();
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config), "layers": [descriptor(media_type, layer)] });
    let manifest = manifest.to_string().into_bytes();
    add_entry(layout, name, descriptor(MANIFEST, &manifest));
    let [manifest, config, layer] = [&manifest, &config, layer].map(|bytes| put_blob(layout, bytes));
    PutImage { manifest, config, layer }
}

/// Adds an image that a mirror may be asked for, and one for a pod, `name`, that has a page to serve: both of the shell that the image
/// built in the folder `built` has too.
pub fn add_shell_images(built: &Path, layout: &Path, name: &str, page: &str) {
    let shell = shell_of(built);
    let sleep = ["/bin/sh", "-c", "sleep 100000"];
    let sandbox = ("io.containerd.image.name", "registry.k8s.io/pause:3.10.1");
    add_image(layout, sandbox, &[("bin/sh", &shell)], &sleep);
    let files: [(&str, &[u8]); 3] = [("bin/sh", &shell), ("bin/hostname", &shell), ("www/index.html", page.as_bytes())];
    add_image(layout, ("org.opencontainers.image.ref.name", name), &files, &sleep);
}

/// The busybox of the image in the folder `built`, which needs no library.
pub fn shell_of(built: &Path) -> Vec<u8> {
    let folder = new_folder();
    let busybox = programs_of(built, folder.path(), &["busybox"]).remove(0);
    std::fs::read(busybox).expect("it was unpacked")
}

/// Adds an entry to a layout's list of images.
pub fn add_entry(layout: &Path, (key, value): (&str, &str), mut entry: Value) {
    std::fs::create_dir_all(layout).expect("the folder is the test's own");
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("it is writable");
    let path = layout.join("index.json");
    let index = std::fs::read(&path).map(|bytes| serde_json::from_slice(&bytes).expect("it was written here"));
    let mut index: Value = index.unwrap_or_else(|_| json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }));
    entry["annotations"] = json!({ key: value });
    index["manifests"].as_array_mut().expect("it was written here").push(entry);
    std::fs::write(path, index.to_string()).expect("it is writable");
}

pub fn put_blob(layout: &Path, bytes: &[u8]) -> Sha256 {
    let (blobs, digest) = (layout.join("blobs/sha256"), Sha256::of(bytes));
    std::fs::create_dir_all(&blobs).expect("the folder is the test's own");
    std::fs::write(blobs.join(digest.to_string()), bytes).expect("it is writable");
    digest
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{}", Sha256::of(bytes)), "size": bytes.len() })
}
