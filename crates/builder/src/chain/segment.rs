//! A node's own files: overlays with its variables filled in, as a small archive that the loader adds to the initrd.

use super::ChainError;
use crate::cluster::join::{JoinPlace, PLACE_FILE};
use crate::entry::{Body, Entry, Kind, Sha256};
use crate::local::is_in_overlay;
use crate::nodes::Node;
use crate::pack::{Compressor, PackError, archive_size, write_archive};
use crate::recipe::{Compression, Lineage, Overlay, SegmentName, VarValue, render_template};
use crate::secrets::{Author, LOOKED_AT, in_file};
use crate::segment::lay_out_node;
use crate::tree::{Draft, Reason, TreeEntry, add_overlay};
use std::collections::BTreeMap;
use std::path::Path;

/// The archive is compressed, so that it may stand at any offset behind the other initrds (init/initramfs.c wants a plain
/// one at a multiple of 4). gzip: every kernel has it.
const COMPRESSION: Compression = Compression::Gzip(9);

/// A node's own segment.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSegment {
    pub bytes: Vec<u8>,
    /// Of its sums file: what `bw.node=` says.
    pub sums_sha256: Sha256,
    /// What gives a secret away, by file and line.
    pub secrets: Vec<String>,
}

/// Renders and packs; `None` for a node that joins no cluster and has no overlays.
pub fn node_segment(node: &Node, join: Option<&JoinPlace>) -> Result<Option<NodeSegment>, ChainError> {
    if node.overlays.is_empty() && join.is_none() {
        return Ok(None);
    }
    let vars = variables(node);
    let render = |path: &Path, text: &str| Ok(render_template(&path.to_string_lossy(), text, &vars)?);
    let mut draft = Draft::default();
    let files =
        |cause| ChainError::Files { origin: node.origin.clone(), node: node.name.clone(), cause: Box::new(cause) };
    for dir in &node.overlays {
        let of_this = node.modes.iter().filter(|(inner, _)| is_in_overlay(dir, inner));
        let modes = of_this.map(|(inner, stated)| (inner.clone(), *stated)).collect();
        let overlay = Overlay { modes, ..Overlay::of(dir.clone(), node.origin.clone()) };
        add_overlay(&overlay, &Lineage::default(), &render, &mut draft).map_err(files)?;
    }
    if let Some(join) = join {
        draft.add(join_file(node, join)).map_err(files)?;
    }
    draft.complete_parents().map_err(files)?;
    let packing = |cause| ChainError::Segment { node: node.name.clone(), cause: Box::new(cause) };
    let mut secrets = Vec::new();
    for entry in draft.tree.segment(SegmentName::Config) {
        let Kind::File(body) = &entry.entry.kind else { continue };
        let bytes = body.read_start(LOOKED_AT).map_err(ChainError::io("read", &body.place()))?;
        let found = in_file(&entry.entry.path, &bytes, Author::Own);
        secrets.extend(found.iter().map(|secret| format!("`{}` {secret}", entry.entry.path)));
    }
    if node.secrets.is_none() && !secrets.is_empty() {
        return Err(ChainError::Secrets { origin: node.origin.clone(), node: node.name.clone(), found: secrets });
    }
    let archive = lay_out_node(&draft.tree)
        .map_err(|e| packing(PackError::BadEntry { path: e.path, problem: "the image's own layout uses that path" }))?;
    let bytes = pack(&archive.entries).map_err(packing)?;
    Ok(Some(NodeSegment { bytes, sums_sha256: archive.sums_sha256, secrets }))
}

/// The file that tells a node where it asks for its certificate.
fn join_file(node: &Node, join: &JoinPlace) -> TreeEntry {
    TreeEntry {
        entry: Entry::of_root(PLACE_FILE, Kind::File(Body::from_bytes(join.document())), 0o644),
        component: "cluster".into(),
        origin: node.origin.clone(),
        reason: Reason::Computed,
        segment: SegmentName::Config,
    }
}

fn pack(entries: &[Entry]) -> Result<Vec<u8>, PackError> {
    let failed = |cause| PackError::io("write", Path::new("(memory)"))(cause);
    let size = archive_size(entries)?;
    let mut out = Compressor::new(COMPRESSION, size, 1, Vec::new()).map_err(failed)?;
    write_archive(entries, &mut out, failed)?;
    out.finish().map_err(failed)
}

/// Its file's name below `nodes/`.
pub fn file_name(node: &Node) -> String {
    format!("{}.cpio.gz", node.name)
}

/// What templates know: the node's own variables, and what nodes.toml says of it. What it does not say is empty.
fn variables(node: &Node) -> BTreeMap<String, VarValue> {
    let text = |value: Option<String>| VarValue::Text(value.unwrap_or_default());
    let own = [
        ("name", text(Some(node.name.clone()))),
        ("hostname", text(Some(node.hostname.clone()))),
        ("address", text(node.address.map(|a| a.ip.to_string()))),
        ("prefix", text(node.address.map(|a| a.prefix.to_string()))),
        ("gateway", text(node.gateway.map(|ip| ip.to_string()))),
        ("mac", text(node.macs.first().map(ToString::to_string))),
        ("uuid", text(node.uuid.clone())),
        ("recipe", text(Some(node.recipe.clone()))),
    ];
    let mut vars = node.vars.clone();
    vars.extend(own.map(|(name, value)| (name.to_string(), value)));
    vars
}
