//! Images that this program makes itself: they come with it, so that the lock does not pin them.

use super::baked::{BakedImage, BakedLayer, Document};
use super::manifest::OCI_MANIFEST;
use crate::cache::unpacked::{Member, MemberKind};
use crate::entry::{Body, Sha256, Xattrs};
use crate::recipe::BuiltinImage;
use crate::source::{PackageFacts, Pool};
use oci_spec::image::Descriptor;
use serde_json::{Value, json};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// `pause/main.rs`, built with this program.
const PAUSE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// The image under that name.
pub fn builtin_image(name: &str, image: BuiltinImage) -> Pool {
    let (path, program) = match image {
        BuiltinImage::Pause => ("pause", PAUSE),
    };
    let layer = layer_of(path, program);
    let layer_is = describe(LAYER, &layer);
    // Nobody's user, as upstream's image has it.
    let config = json!({ "architecture": "amd64", "os": "linux",
        "config": { "User": "65535:65535", "Entrypoint": [format!("/{path}")] },
        "rootfs": { "type": "layers", "diff_ids": [layer_is["digest"]] } });
    let config = config.to_string().into_bytes();
    let config_is = describe(CONFIG, &config);
    let manifest = json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config_is, "layers": [layer_is] });
    let manifest = manifest.to_string().into_bytes();
    let children = [&config_is, &layer_is].map(|child| {
        serde_json::from_value::<Descriptor>((*child).clone()).expect("a descriptor has these three keys")
    });
    let manifest = document(OCI_MANIFEST, manifest, children.into());
    let config = document(CONFIG, config, Vec::new());
    let kind = MemberKind::File(Body::from_bytes(program));
    let member = Member { name: path.into(), kind, mode: 0o755, uid: 0, gid: 0, xattrs: Xattrs::new(), mtime: 0 };
    let facts = PackageFacts {
        name: name.into(),
        version: format!("sha256:{}", manifest.sha256),
        license: Some(env!("CARGO_PKG_LICENSE").into()),
        sha256: Some(manifest.sha256),
        ..PackageFacts::default()
    };
    let layers = vec![BakedLayer { diff_id: Sha256::of(&layer), members: vec![member] }];
    let image = BakedImage { name: name.into(), documents: vec![manifest], config, layers };
    Pool { image: Some(image), packages: vec![facts], ..Pool::default() }
}

fn layer_of(path: &str, program: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o755);
    header.set_size(program.len() as u64);
    tar.append_data(&mut header, path, program).expect("memory takes it");
    tar.into_inner().expect("memory takes it")
}

fn describe(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{}", Sha256::of(bytes)), "size": bytes.len() })
}

fn document(media_type: &str, bytes: Vec<u8>, children: Vec<Descriptor>) -> Document {
    Document { media_type: media_type.into(), sha256: Sha256::of(&bytes), bytes, children }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::oci::manifest::{is_image, parse_config, parse_document};

    #[test]
    fn the_sandbox_is_an_image_of_one_small_static_program() {
        let image = builtin_image("localhost/pause:1", BuiltinImage::Pause).image.unwrap();
        let Ok(super::super::manifest::Document::Manifest(manifest)) = parse_document("i", &image.documents[0].bytes)
        else {
            panic!("no manifest")
        };
        assert!(is_image(&manifest));
        let config = parse_config("i", &image.config.bytes).unwrap();
        assert_eq!(config.diff_ids, [image.layers[0].diff_id]);
        let program = goblin::elf::Elf::parse(PAUSE).unwrap();
        assert!(program.interpreter.is_none() && program.libraries.is_empty());
        assert!(PAUSE.len() < 2048, "{}", PAUSE.len());
    }
}
