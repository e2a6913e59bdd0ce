//! matchbox's groups and profiles (its `storage.proto`): JSON files below its data folder, with `out/` as its assets.

use super::{BootImage, NodeEntry, Plan};
use serde::Serialize;
use std::collections::BTreeMap;

/// What a machine boots.
#[derive(Debug, Serialize)]
pub struct Profile {
    pub id: String,
    pub name: String,
    pub boot: NetBoot,
}

#[derive(Debug, Serialize)]
pub struct NetBoot {
    pub kernel: String,
    pub initrd: Vec<String>,
    pub args: Vec<String>,
}

/// Which machines boot it. All selectors must fit, so a MAC and a UUID have a group each.
#[derive(Debug, Serialize)]
pub struct MachineGroup {
    pub id: String,
    pub name: String,
    pub profile: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<&'static str, String>,
}

/// A profile an image and one a node.
pub fn profiles(plan: &Plan<'_>) -> Vec<Profile> {
    let images = plan.images.iter().map(|image| {
        let id = format!("image-{}", image.name);
        profile(id, &image.name, image, &[format!("{}/initrd.img", image.name)], plan.image_words(image))
    });
    let nodes = plan
        .nodes
        .iter()
        .map(|entry| profile(node_id(entry), &entry.node.name, entry.image, &entry.initrds(), plan.node_words(entry)));
    images.chain(nodes).collect()
}

/// One for each MAC and UUID, and one without a selector for everybody else, if the default is an image.
pub fn groups(plan: &Plan<'_>) -> Vec<MachineGroup> {
    let mut groups = Vec::new();
    for entry in &plan.nodes {
        let macs = entry.node.macs.iter().map(|mac| ("mac", mac.to_string()));
        for (key, value) in macs.chain(entry.node.uuid.iter().map(|uuid| ("uuid", uuid.clone()))) {
            let id = format!("{}-{}", node_id(entry), value.replace(':', "-"));
            let (name, profile) = (entry.node.name.clone(), node_id(entry));
            groups.push(MachineGroup { id, name, profile, selector: [(key, value)].into() });
        }
    }
    if plan.images.iter().any(|image| image.name == plan.default) {
        let profile = format!("image-{}", plan.default);
        groups.push(MachineGroup {
            id: "default".into(),
            name: "everybody else".into(),
            profile,
            selector: BTreeMap::new(),
        });
    }
    groups
}

fn node_id(entry: &NodeEntry<'_>) -> String {
    format!("node-{}", entry.node.name)
}

/// matchbox puts the words as they are into an iPXE script: iPXE fills in the card.
fn profile(id: String, name: &str, image: &BootImage, initrds: &[String], words: Vec<String>) -> Profile {
    let by_name = initrds.iter().map(|path| format!("initrd={}", path.rsplit('/').next().unwrap_or(path)));
    let args = by_name.chain(["BOOTIF=01-${netX/mac:hexhyp}".to_string()]).chain(words).collect();
    let boot = NetBoot {
        kernel: format!("/assets/{}/vmlinuz", image.name),
        initrd: initrds.iter().map(|path| format!("/assets/{path}")).collect(),
        args,
    };
    Profile { id, name: name.into(), boot }
}
