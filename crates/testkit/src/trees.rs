//! Trees for tests, and what is done with them.

use bootwright::cache::Cache;
use bootwright::entry::{Body, Entry, Kind};
use bootwright::pack::{PackContext, PackSettings, pack_segment};
use bootwright::recipe::{Compression, Origin, Root, RootMode, SegmentName};
use bootwright::segment::PackedSegment;
use bootwright::tree::{Reason, Tree, TreeEntry};
use bootwright::ui::{Ui, Verbosity};
use bootwright_contract::RootImage;
use std::path::Path;

/// An entry of component `test`, owned by root.
pub fn entry(segment: SegmentName, path: &str, kind: Kind, mode: u32) -> TreeEntry {
    TreeEntry {
        entry: Entry::of_root(path, kind, mode),
        component: "test".into(),
        origin: Origin { file: "test.toml".into(), line: 1 },
        reason: Reason::Inline,
        segment,
    }
}

pub fn file(bytes: impl Into<Vec<u8>>) -> Kind {
    Kind::File(Body::from_bytes(bytes.into()))
}

pub fn tree(entries: Vec<TreeEntry>) -> Tree {
    Tree { entries: entries.into_iter().map(|e| ((e.segment, e.entry.path.clone()), e)).collect(), ..Tree::default() }
}

/// One entry of each kind in each segment, with names, sizes and owners at which archives break.
pub fn many_kinds(with_devices: bool) -> Tree {
    let mut entries = Vec::new();
    for segment in SegmentName::OF_TREE {
        let long = format!("deep/{}/{}", "d".repeat(120), "f".repeat(200));
        let mut add = |path: &str, kind, mode| entries.push(entry(segment, path, kind, mode));
        add("deep", Kind::Dir, 0o755);
        add(&format!("deep/{}", "d".repeat(120)), Kind::Dir, 0o700);
        add(&long, file("long name"), 0o600);
        add("empty", file(""), 0o644);
        add("etc", Kind::Dir, 0o755);
        add("etc/link", Kind::Symlink("../empty".into()), 0o777);
        add("etc/far", Kind::Symlink(format!("/x/{}", "y".repeat(150))), 0o777);
        add("hard-a", file(vec![7; 5000]), 0o755);
        add("hard-b", Kind::Hardlink("hard-a".into()), 0o755);
        add("hard", Kind::Hardlink("hard-a".into()), 0o755);
        add("umlaut-ä ö", file("1"), 0o644);
        add("tmp", Kind::Dir, 0o1777);
        add("suid", file(noise(300_001)), 0o4755);
        if with_devices {
            add("console", Kind::CharDevice { major: 5, minor: 1 }, 0o600);
            add("disk", Kind::BlockDevice { major: 259, minor: 300 }, 0o660);
            add("pipe", Kind::Fifo, 0o600);
            let mut owned = entry(segment, "owned", file("x"), 0o640);
            (owned.entry.uid, owned.entry.gid) = (1000, 65534);
            entries.push(owned);
        }
    }
    tree(entries)
}

/// Bytes that do not compress, always the same.
pub fn noise(n: usize) -> Vec<u8> {
    let mut state = 88172645463325252u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..n).map(|_| next()).collect()
}

pub fn settings(image: RootImage, compressor: &str, level: Option<u32>, stable: Compression) -> PackSettings {
    let root = Root {
        mode: RootMode::Ram,
        sources: Vec::new(),
        choices: Vec::new(),
        names_sources: false,
        image,
        block_kib: 64,
        compressor: compressor.into(),
        level,
        overlay_size: "32M".into(),
        read_ahead_kb: None,
        tmpfs: Vec::new(),
        lost_reboot_s: None,
        corrupted_reboot_s: None,
        trust: None,
        refuse_downgrade: false,
    };
    PackSettings { root, boot: stable, stable, volatile: stable }
}

/// Packs one segment with a cache in `dir`.
pub fn pack(dir: &Path, name: SegmentName, tree: &Tree, how: &PackSettings, jobs: usize) -> PackedSegment {
    let cache = Cache::open(dir).expect("the cache opens");
    let ui = Ui { verbosity: Verbosity::Quiet, bars: false };
    pack_segment(name, tree, &[], how, PackContext { cache: &cache, ui: &ui, jobs }).expect("it packs")
}
