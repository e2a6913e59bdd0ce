//! Scripts for iPXE (<https://ipxe.org/cmd>). Addresses are relative, so that `out/` can be served from anywhere.

use super::san::san;
use super::{BootImage, FOLDER, NodeEntry, Plan};
use crate::nodes::MENU_WORDS;

/// Attempts to load a script, and seconds between two of them.
const ATTEMPTS: u32 = 5;
const PAUSE_S: u32 = 3;

/// `boot.ipxe`: knows every node by UUID and by the MAC of the card that it booted from. The whole list is in one file, so that
/// a server that fails for a moment never makes a node take the menu's default.
pub fn entry_script(plan: &Plan<'_>) -> String {
    let mut text = format!("#!ipxe\n# the nodes of nodes.toml: {}\nclear bw-node ||\n", plan.nodes.len());
    for entry in &plan.nodes {
        if let Some(uuid) = &entry.node.uuid {
            text.push_str(&format!("iseq ${{uuid}} {uuid} && set bw-node {} ||\n", entry.node.name));
        }
    }
    // After the UUIDs, so that a MAC wins.
    for entry in &plan.nodes {
        for mac in &entry.node.macs {
            text.push_str(&format!("iseq ${{netX/mac}} {mac} && set bw-node {} ||\n", entry.node.name));
        }
    }
    text.push_str("isset ${bw-node} && set bw-next nodes/${bw-node}.ipxe || set bw-next menu.ipxe\n");
    text.push_str(&chain("${bw-next}"));
    text
}

/// `by-mac/...` and `by-uuid/...`: a node's script by another name.
pub fn link_script(entry: &NodeEntry<'_>) -> String {
    format!("#!ipxe\n{}", chain(&format!("../nodes/{}.ipxe", entry.node.name)))
}

/// `nodes/NAME.ipxe`: sets what is the node's own, and goes on to its image.
pub fn node_script(plan: &Plan<'_>, entry: &NodeEntry<'_>) -> String {
    let node = entry.node;
    let mut text = format!("#!ipxe\necho bootwright: this is {}\n", node.name);
    let mut words = entry.own_words().to_vec();
    if let Some((first, more)) = node.roots.split_first() {
        let san = Some(first).filter(|_| node.ibft).and_then(|root| san(root));
        let root = if san.is_some() { "iscsi:ibft" } else { first.as_str() };
        text.push_str(&format!("set bw-root bw.root={root}\n"));
        words.extend(more.iter().map(|root| format!("bw.root={root}")));
        text.push_str(&san.unwrap_or_default());
    }
    if let Some(path) = entry.segment_path() {
        text.push_str(&format!("set bw-segment ../{path}\n"));
        if plan.signed {
            text.push_str(&format!("set bw-segment-signature ../{path}.sig\n"));
        }
    }
    text.push_str(&format!("set bw-args {} ${{bw-args}}\n", [words, plan.server_words()].concat().join(" ")));
    text.push_str(&image(plan, entry.image, "../.."));
    text
}

/// Goes on to an image's own script. `up`: the way from this script to the folder of images.
fn image(plan: &Plan<'_>, image: &BootImage, up: &str) -> String {
    let name = &image.name;
    let mut text = String::new();
    if let Some(url) = &plan.server.url {
        text.push_str(&format!("set bw-url {url}/{name}/\n"));
    }
    if plan.signed {
        text.push_str(&format!("set bw-signatures ../{FOLDER}/signatures/{name}/\n"));
    }
    text + &chain(&format!("{up}/{name}/boot.ipxe"))
}

/// Loads and runs a script; tries again when it cannot be loaded, and reboots in the end.
fn chain(url: &str) -> String {
    format!(
        "set bw-load:int32 1\n\
         :load\n\
         chain --autofree {url} ||\n\
         echo bootwright: {url} failed, attempt ${{bw-load}} of {ATTEMPTS}; the reason stands above\n\
         iseq ${{bw-load}} {ATTEMPTS} && goto give_up ||\n\
         inc bw-load\n\
         sleep {PAUSE_S}\n\
         goto load\n\
         :give_up\n\
         prompt --timeout 60000 Press a key within 60 s for a shell, or wait for a reboot || reboot ||\n\
         shell\n"
    )
}

/// `menu.ipxe`: for a machine that is no known node.
pub fn menu_script(plan: &Plan<'_>) -> String {
    let mut text = String::from("#!ipxe\n:menu\nmenu bootwright: ${netX/mac} is no known node\n");
    text.push_str("item --gap -- Images\n");
    for image in plan.images {
        text.push_str(&format!("item image-{} {}\n", image.name, Plan::title(image)));
    }
    if !plan.nodes.is_empty() {
        text.push_str("item --gap -- Boot as\n");
        for entry in &plan.nodes {
            text.push_str(&format!("item node-{0} {0}: {1}\n", entry.node.name, entry.image.name));
        }
    }
    text.push_str("item --gap -- Other\nitem local The local disk\nitem shell A shell of iPXE\nitem reboot Reboot\n");
    let prefix = if MENU_WORDS.contains(&plan.default.as_str()) { "" } else { "image-" };
    let timeout_ms = u64::from(plan.menu.timeout_s) * 1000;
    text.push_str(&format!(
        "choose --default {prefix}{} --timeout {timeout_ms} bw-choice || goto shell\ngoto ${{bw-choice}}\n",
        plan.default
    ));
    for image in plan.images {
        let words = plan.server_words().join(" ");
        let args = if words.is_empty() { String::new() } else { format!("set bw-args {words} ${{bw-args}}\n") };
        text.push_str(&format!(":image-{0}\nset bw-next ../{0}/boot.ipxe\n{args}", image.name));
        if let Some(url) = &plan.server.url {
            text.push_str(&format!("set bw-url {url}/{}/\n", image.name));
        }
        if plan.signed {
            text.push_str(&format!("set bw-signatures ../{FOLDER}/signatures/{}/\n", image.name));
        }
        text.push_str("goto next\n");
    }
    for entry in &plan.nodes {
        text.push_str(&format!(":node-{0}\nset bw-next nodes/{0}.ipxe\ngoto next\n", entry.node.name));
    }
    text.push_str(
        ":local\n\
         iseq ${platform} efi && exit 1 ||\n\
         sanboot --no-describe --drive 0x80 || goto menu\n\
         :shell\n\
         echo The command exit leads back to the menu\n\
         shell\n\
         goto menu\n\
         :reboot\n\
         reboot\n\
         :next\n",
    );
    text.push_str(&chain("${bw-next}"));
    text
}
