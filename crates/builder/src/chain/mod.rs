//! The boot chain: what a boot server needs beside images, for several loaders. Written to `out/boot/`:
//!
//! | path | for |
//! |---|---|
//! | `boot.ipxe` | iPXE: finds the node by MAC or UUID, else goes on to `menu.ipxe` |
//! | `nodes/NAME.ipxe`, `nodes/NAME.cpio.gz` | a node's own words and its own files |
//! | `by-mac/52-54-00-12-34-56.ipxe`, `by-uuid/UUID.ipxe` | the same by another name, for a menu of somebody's own |
//! | `pxelinux.cfg/` | PXELINUX, with TFTP's root at `out/` |
//! | `grub.cfg`, `x86_64-efi/` | GRUB, loaded by UEFI over HTTP or TFTP |
//! | `dnsmasq.conf` | DHCP or proxyDHCP that starts all this |
//! | `matchbox/` | matchbox, with `out/` as its assets |
//! | `chain.json` | what is in here, for `bootwright serve` |

mod dnsmasq;
mod error;
mod grub;
mod images;
mod ipxe;
mod matchbox;
mod plan;
mod pxelinux;
mod san;
mod segment;
mod sign;
#[cfg(test)]
mod tests;
mod write;

pub use dnsmasq::{LOADERS, LOADERS_FOLDER};
pub use error::ChainError;
pub use images::{BootImage, load_images};
pub use plan::{NodeEntry, Plan};
pub use sign::Signer;

use crate::cluster::join::JoinPlace;
use crate::emit::{FolderKind, Readers, Staging};
use crate::nodes::Nodes;
use crate::ui::Ui;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Folder below `out/`.
pub const FOLDER: &str = "boot";
/// Its own account.
pub const INDEX: &str = "chain.json";
/// What is not written here stays when the folder is written anew: loaders such as `pxelinux.0`.
const KIND: FolderKind = FolderKind { marker: INDEX, outlives: |name| !is_written_here(name) };
/// Layout of [`Index`].
pub const SCHEMA: u32 = 1;

/// `chain.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// [`SCHEMA`].
    pub schema: u32,
    pub nodes: Vec<IndexNode>,
    /// Where nodes report to.
    pub report: Option<String>,
}

/// A node as `bootwright serve` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexNode {
    pub name: String,
    pub hostname: String,
    pub macs: Vec<String>,
    pub uuid: Option<String>,
    pub image: String,
    /// The one that nodes.toml gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

/// What was written.
#[derive(Debug)]
pub struct WrittenChain {
    pub dir: PathBuf,
    pub index: Index,
    pub images: Vec<BootImage>,
}

/// Writes `<out>/boot/` for the images in `out` and the nodes, whole or not at all.
///
/// # Errors
/// [`ChainError`]; what was there before is then still there.
pub fn write_chain(nodes: &Nodes, out: &Path, signer: Option<&Signer>, ui: &Ui) -> Result<WrittenChain, ChainError> {
    let images = load_images(out)?;
    let join = join_place(nodes)?;
    let plan = Plan::new(nodes, &images, join.as_ref(), signer.is_some())?;
    let readers = if nodes.hold_secrets() { Readers::Group } else { Readers::All };
    let staging = Staging::start(out, FOLDER, KIND, readers)?;
    let index = Index { schema: SCHEMA, nodes: plan.nodes.iter().map(index_node).collect(), report: plan.report_url() };
    for allowed in plan.nodes.iter().filter_map(NodeEntry::secrets) {
        ui.say(allowed);
    }
    write::write_all(&plan, &index, staging.dir())?;
    if let Some(signer) = signer {
        sign::sign_all(&plan, signer, out, staging.dir())?;
    }
    staging.finish()?;
    let dir = staging.target().to_path_buf();
    Ok(WrittenChain { dir, index, images })
}

/// Where nodes of a cluster ask for their certificates.
fn join_place(nodes: &Nodes) -> Result<Option<JoinPlace>, ChainError> {
    let Some(cluster) = &nodes.cluster else { return Ok(None) };
    let server = nodes.server.url.as_ref().ok_or(ChainError::NoServer)?;
    let key = crate::signing::load_public_key(&crate::signing::public_path(&cluster.signing_key))?;
    Ok(Some(JoinPlace::new(server, &key)))
}

/// Whether an entry of `out/boot/` is one that [`write_chain`] makes, in this or another run.
fn is_written_here(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| write::FILES.contains(&name) || write::FOLDERS.contains(&name) || name == sign::FOLDER)
}

fn index_node(entry: &NodeEntry<'_>) -> IndexNode {
    IndexNode {
        name: entry.node.name.clone(),
        hostname: entry.node.hostname.clone(),
        macs: entry.node.macs.iter().map(ToString::to_string).collect(),
        uuid: entry.node.uuid.clone(),
        image: entry.node.image.clone(),
        address: entry.node.address.map(|address| address.ip),
    }
}
