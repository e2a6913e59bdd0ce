//! PXELINUX's configuration (<https://wiki.syslinux.org/wiki/index.php?title=PXELINUX>), with TFTP's root at `out/`.

use super::{BootImage, NodeEntry, Plan};
use crate::nodes::MENU_WORDS;

/// `pxelinux.cfg/default`: a menu by labels, for a machine that is no known node.
pub fn default_config(plan: &Plan<'_>) -> String {
    // Tenths of a second; 0 waits for ever.
    let timeout = u64::from(plan.menu.timeout_s) * 10;
    let default = match plan.default.as_str() {
        word if MENU_WORDS.contains(&word) => "local",
        image => image,
    };
    let mut text = format!("DEFAULT {default}\nPROMPT 1\nTIMEOUT {timeout}\n");
    for image in plan.images {
        text.push_str(&format!("SAY {}\n", Plan::title(image)));
    }
    text.push_str("SAY local: the local disk\n");
    for image in plan.images {
        text.push_str(&label(&image.name, image, &[format!("{}/initrd.img", image.name)], &plan.image_words(image)));
    }
    text.push_str("LABEL local\n  LOCALBOOT -1\n");
    text
}

/// `pxelinux.cfg/01-MAC` and `pxelinux.cfg/UUID`: boots the node at once.
pub fn node_config(plan: &Plan<'_>, entry: &NodeEntry<'_>) -> String {
    let name = &entry.node.name;
    let label = label(name, entry.image, &entry.initrds(), &plan.node_words(entry));
    format!("DEFAULT {name}\nPROMPT 0\nSAY bootwright: this is {name}\n{label}")
}

/// `::` keeps PXELINUX from putting its own folder before the path; SYSAPPEND 2 adds `BOOTIF=`.
fn label(name: &str, image: &BootImage, initrds: &[String], words: &[String]) -> String {
    let initrds: Vec<String> = initrds.iter().map(|path| format!("::{path}")).collect();
    format!(
        "LABEL {name}\n  KERNEL ::{}/vmlinuz\n  INITRD {}\n  APPEND {}\n  SYSAPPEND 2\n",
        image.name,
        initrds.join(","),
        words.join(" ")
    )
}
