//! The name of a packed segment in the cache: a hash of all that decides its bytes, and of nothing else.

use super::{FoundPackTool, PackSettings};
use crate::entry::{Entry, Kind};
use crate::recipe::SegmentName;
use crate::segment::is_image;
use crate::tree::Tree;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Raised when the same inputs give other bytes, or the facts that are kept with them change.
const FORMAT: u32 = 2;

/// Hex digits. Component names are part of it, as the shares that are kept with the segment name them.
pub fn segment_key(
    name: SegmentName,
    tree: &Tree,
    extra: &[Entry],
    how: &PackSettings,
    tool: Option<&FoundPackTool>,
) -> String {
    let mut text = format!("{FORMAT} {} {:?}\n", name.as_str(), how.compression(name));
    if let (SegmentName::Root, image) = (name, how.root.image) {
        let root = &how.root;
        let _ = write!(text, "{image:?}");
        if is_image(name, image) {
            let _ = write!(text, " {} {} {:?}", root.block_kib, root.compressor, root.level);
        }
        text.push('\n');
    }
    if let Some(tool) = tool {
        let _ = writeln!(text, "{}", tool.title());
    }
    text += &describe_segment(name, tree);
    text.push('\n');
    for entry in extra {
        describe(entry, "", &mut text);
    }
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// The same for container images; `entries` come with the image that they belong to, and their time. `args`: the tool's.
pub fn images_key<'a>(
    entries: impl Iterator<Item = (&'a Entry, &'a str, u32)>,
    args: &[&str],
    tool: &FoundPackTool,
) -> String {
    let mut text = format!("{FORMAT} {} {} {}\n", SegmentName::Images.as_str(), args.join(" "), tool.title());
    for (entry, image, mtime) in entries {
        let _ = write!(text, "{mtime} ");
        describe(entry, image, &mut text);
    }
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// A line for each entry: all that an archive of them holds.
pub fn describe_segment(name: SegmentName, tree: &Tree) -> String {
    let mut text = String::new();
    for entry in tree.segment(name) {
        describe(&entry.entry, &entry.component, &mut text);
    }
    text
}

/// One line; paths hold no newline, and fields that could hold a blank are quoted.
fn describe(entry: &Entry, component: &str, text: &mut String) {
    let Entry { path, kind, mode, uid, gid, xattrs } = entry;
    let _ = write!(text, "{path:?} {mode:o} {uid} {gid} {component:?} ");
    for (name, value) in xattrs {
        let _ = write!(text, "{name:?}={} ", hex::encode(value));
    }
    let _ = match kind {
        Kind::Dir => writeln!(text, "dir"),
        Kind::File(body) => writeln!(text, "file {} {}", body.size, body.sha256),
        Kind::Hardlink(target) => writeln!(text, "link {target:?}"),
        Kind::Symlink(target) => writeln!(text, "symlink {target:?}"),
        Kind::CharDevice { major, minor } => writeln!(text, "char {major} {minor}"),
        Kind::BlockDevice { major, minor } => writeln!(text, "block {major} {minor}"),
        Kind::Fifo => writeln!(text, "fifo"),
    };
}
