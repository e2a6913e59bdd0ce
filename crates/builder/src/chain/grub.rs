//! GRUB's configuration (GNU GRUB manual, "Shell-like scripting" and "Network"). Paths start at the device that GRUB was
//! loaded from, such as `(http,192.0.2.1:8080)`, with `out/` as its root.

use super::{BootImage, Plan};
use crate::nodes::MENU_WORDS;

/// Where GRUB looks for its modules, below the folder of its configuration.
pub const MODULES: &str = "x86_64-efi";

/// What it asks for there first, even when it has all modules in it. They are empty: over HTTP, GRUB 2.06 waits half a minute for each that is
/// missing.
pub const LISTS: [&str; 4] = ["command.lst", "crypto.lst", "fs.lst", "terminal.lst"];

/// `grub.cfg`: a menu of images and nodes; a known node's own entry is taken at once.
pub fn config(plan: &Plan<'_>) -> String {
    let default = match plan.default.as_str() {
        word if MENU_WORDS.contains(&word) => "local".to_string(),
        image => format!("image-{image}"),
    };
    // -1 waits for ever, which 0 is in nodes.toml.
    let timeout = if plan.menu.timeout_s == 0 { -1 } else { i64::from(plan.menu.timeout_s) };
    let mut text = format!("set default={default}\nset timeout={timeout}\n");
    let take = |condition: String, name: &str| {
        format!("if [ {condition} ]; then\n  set default=node-{name}\n  set timeout=0\nfi\n")
    };
    let uuids: Vec<(&str, &str)> =
        plan.nodes.iter().filter_map(|entry| Some((entry.node.uuid.as_deref()?, entry.node.name.as_str()))).collect();
    if !uuids.is_empty() {
        // Type 1, offset 8: the system's UUID (SMBIOS specification 7.2).
        text.push_str("if insmod smbios; then\n  smbios --type 1 --get-uuid 8 --set uuid\nfi\n");
        text.extend(uuids.iter().map(|(uuid, name)| take(format!("\"$uuid\" = \"{uuid}\""), name)));
    }
    for entry in &plan.nodes {
        // After the UUIDs, so that a MAC wins.
        text.extend(
            entry.node.macs.iter().map(|mac| take(format!("\"$net_default_mac\" = \"{mac}\""), &entry.node.name)),
        );
    }
    for image in plan.images {
        let initrd = [format!("{}/initrd.img", image.name)];
        let title = Plan::title(image);
        text.push_str(&entry(&format!("image-{}", image.name), &title, image, &initrd, &plan.image_words(image)));
    }
    for node in &plan.nodes {
        let id = format!("node-{}", node.node.name);
        let title = format!("{}: {}", node.node.name, node.image.name);
        text.push_str(&entry(&id, &title, node.image, &node.initrds(), &plan.node_words(node)));
    }
    text.push_str("menuentry 'The local disk' --id local {\n  exit 1\n}\n");
    text
}

fn entry(id: &str, title: &str, image: &BootImage, initrds: &[String], words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
    let initrds: Vec<String> = initrds.iter().map(|path| quote(&format!("/{path}"))).collect();
    format!(
        "menuentry {} --id {} {{\n  linux {} BOOTIF=01:$net_default_mac {}\n  initrd {}\n}}\n",
        quote(title),
        quote(id),
        quote(&format!("/{}/vmlinuz", image.name)),
        words.join(" "),
        initrds.join(" ")
    )
}

/// As GRUB's shell takes it literally.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_literal() {
        assert_eq!(quote("a$b;c"), "'a$b;c'");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
