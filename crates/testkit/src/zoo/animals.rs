//! Pods that take one thing of a node without end, and the images that they run from.

use crate::folders::{new_folder, project_root};
use crate::layout::{add_image, add_layer};
use crate::need::pinned_go;
use bootwright::entry::Sha256;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Of all animals but the pullers.
const IMAGE: &str = "registry.lab/zoo:1";
/// Larger than the store of blobs.
const LARGE_BLOB: &str = "registry.lab/large-blob:1";
const LARGE_BLOB_BYTES: usize = 160 << 20;
/// A small blob that is larger than the store of layers when it is unpacked.
const LARGE_LAYER: &str = "registry.lab/large-layer:1";
const LARGE_LAYER_BYTES: usize = 512 << 20;
const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const NAME: &str = "org.opencontainers.image.ref.name";

/// A pod that takes one thing without end.
#[derive(Debug, Clone, Copy)]
pub struct Animal {
    pub name: &'static str,
    image: &'static str,
    /// Of the program.
    args: &'static [&'static str],
}

const fn animal(name: &'static str, args: &'static [&'static str]) -> Animal {
    Animal { name, image: IMAGE, args }
}

/// Takes memory until it is ended.
pub const HOG: Animal = animal("hog", &["memory"]);
/// Fills its container's own layer.
pub const LAYER_FILLER: Animal = animal("layer-filler", &["fill", "/"]);
/// All that are let loose.
pub const ALL: [Animal; 9] = [
    HOG,
    LAYER_FILLER,
    animal("volume-filler", &["fill", VOLUME]),
    animal("log-flooder", &["log"]),
    animal("fork-bomb", &["fork"]),
    animal("inode-eater", &["inodes", "/"]),
    animal("file-eater", &["files"]),
    Animal { name: "blob-puller", image: LARGE_BLOB, args: &[] },
    Animal { name: "layer-puller", image: LARGE_LAYER, args: &[] },
];
/// Takes a little memory, reads it again and again, and says so.
pub(super) const KEEPER: Animal = animal("keeper", &["keep"]);
pub(super) const SLEEPER: Animal = animal("sleeper", &["sleep"]);
/// Where each animal has an emptyDir.
const VOLUME: &str = "/volume";

impl Animal {
    /// Its pod on that node, without any limits.
    pub(super) fn pod(self, node: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": self.name },
            "spec": {
                "nodeName": node, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "main", "image": self.image, "args": self.args,
                    "volumeMounts": [{ "name": "volume", "mountPath": VOLUME }],
                }],
                "volumes": [{ "name": "volume", "emptyDir": {} }],
            },
        })
    }
}

/// Builds the animals and adds their images to a layout.
pub fn add_animals(layout: &Path) {
    let folder = new_folder();
    let program = folder.path().join("zoo");
    let mut build = Command::new(pinned_go().expect("the caller has looked"));
    build.args(["build", "-trimpath", "-ldflags", "-s -w", "-o"]).arg(&program).arg(".");
    build.current_dir(project_root().join("crates/testkit/programs/zoo")).env("CGO_ENABLED", "0");
    let status = build.env("GOFLAGS", "-mod=mod").status().expect("go runs");
    assert!(status.success(), "the animals cannot be built");
    let program = std::fs::read(program).expect("it was built");
    add_image(layout, (NAME, IMAGE), &[("zoo", &program)], &["/zoo"]);
}

/// Adds the images that no node has room for.
pub fn add_large_images(layout: &Path) {
    // Bytes that do not repeat: nothing on the way makes them fewer.
    let random = (0..LARGE_BLOB_BYTES as u64 / 8).flat_map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    add_image(layout, (NAME, LARGE_BLOB), &[("zoo", &random.collect::<Vec<u8>>())], &["/zoo"]);
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(LARGE_LAYER_BYTES as u64);
    header.set_mode(0o755);
    tar.append_data(&mut header, "zoo", &vec![0; LARGE_LAYER_BYTES][..]).expect("memory takes it");
    let layer = tar.into_inner().expect("memory takes it");
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&layer).expect("memory takes it");
    let packed = packed.finish().expect("memory takes it");
    add_layer(layout, (NAME, LARGE_LAYER), (GZIP_LAYER, &packed, Sha256::of(&layer)), &["/zoo"]);
}
