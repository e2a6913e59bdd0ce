use super::*;
use crate::recipe::{Origin, RootMode};
use crate::tree::{Reason, TreeEntry};
use crate::ui::Verbosity;

fn how(image: RootImage, compressor: &str, level: Option<u32>, block_kib: u32) -> PackSettings {
    let root = Root {
        mode: RootMode::Ram,
        sources: Vec::new(),
        choices: Vec::new(),
        names_sources: false,
        image,
        block_kib,
        compressor: compressor.into(),
        level,
        overlay_size: "1M".into(),
        read_ahead_kb: None,
        tmpfs: Vec::new(),
        lost_reboot_s: None,
        corrupted_reboot_s: None,
        trust: None,
        refuse_downgrade: false,
    };
    PackSettings { root, boot: Compression::None, stable: Compression::None, volatile: Compression::None }
}

fn tree(entries: Vec<Entry>) -> Tree {
    let one = |entry: Entry| TreeEntry {
        entry,
        component: "test".into(),
        origin: Origin { file: "t.toml".into(), line: 1 },
        reason: Reason::Inline,
        segment: SegmentName::Root,
    };
    Tree {
        entries: entries.into_iter().map(|e| ((SegmentName::Root, e.path.clone()), one(e))).collect(),
        ..Tree::default()
    }
}

fn pack(tree: &Tree, how: &PackSettings, extra: &[Entry]) -> Result<PackedSegment, PackError> {
    let dir = tempfile::tempdir().unwrap();
    let ui = Ui { verbosity: Verbosity::Quiet, bars: false };
    let cache = Cache::open(dir.path()).unwrap();
    pack_segment(SegmentName::Root, tree, extra, how, PackContext { cache: &cache, ui: &ui, jobs: 1 })
}

#[test]
fn settings_that_no_tool_takes_are_refused_before_one_is_run() {
    use RootImage::{Cpio, Erofs, Squashfs};
    for (image, compressor, level, block_kib, good) in [
        (Squashfs, "zstd", Some(22), 128, true),
        (Squashfs, "zstd", Some(23), 128, false),
        (Squashfs, "zstd", Some(0), 128, false),
        (Squashfs, "gzip", Some(10), 128, false),
        (Squashfs, "xz", Some(6), 128, false),
        (Squashfs, "lz4hc", None, 1024, true),
        (Squashfs, "zstd", None, 2048, false),
        (Squashfs, "zstd", None, 100, false),
        (Squashfs, "lzo", None, 128, false),
        (Erofs, "lz4hc", Some(12), 64, true),
        (Erofs, "lz4hc", Some(13), 64, false),
        (Erofs, "lz4", Some(1), 64, false),
        (Erofs, "zstd", Some(3), 64, true),
        (Erofs, "brotli", None, 64, false),
        (Erofs, "lz4", None, 2, false),
        (Cpio, "whatever", None, 3, true),
    ] {
        let result = check_settings(&how(image, compressor, level, block_kib));
        assert_eq!(result.is_ok(), good, "{image:?} {compressor} {level:?} {block_kib}: {result:?}");
    }
    let bad = PackSettings { stable: Compression::Zstd(0), ..how(Cpio, "", None, 4) };
    let failure = crate::error::Failure::from(check_settings(&bad).unwrap_err());
    assert_eq!(failure.exit, crate::error::Exit::Usage);
    assert_eq!(failure.message, "level 0 is out of range for zstd: it takes 1 to 22");
}

#[test]
fn the_layouts_paths_are_reserved() {
    let file = |path: &str| Entry::of_root(path, Kind::Dir, 0o755);
    let result = pack(&tree(vec![]), &how(RootImage::Cpio, "", None, 4), &[file("bootwright/sums")]);
    assert!(matches!(result, Err(PackError::BadEntry { .. })), "{result:?}");
}

#[test]
fn a_tool_says_what_it_lacks() {
    if !testkit::need::have(&[MKFS_EROFS.name, MKSQUASHFS.name]) {
        return;
    }
    let owned = Entry { uid: 7, ..Entry::of_root("x", Kind::Dir, 0o755) };
    let result = pack(&tree(vec![owned]), &how(RootImage::Erofs, "lz4", None, 64), &[]);
    assert!(matches!(result, Err(PackError::Erofs { .. })), "{result:?}");

    // The parent is missing, which the tree never lets happen: mksquashfs says something, and that is no image.
    let body = Body { sha256: Sha256([0; 32]), size: 3, at: BodyAt::Memory(b"abc"[..].into()) };
    let wrong = Entry::of_root("x", Kind::File(body), 0o644);
    let result = pack(&tree(vec![wrong]), &how(RootImage::Squashfs, "zstd", None, 64), &[]);
    assert!(matches!(result, Err(PackError::Changed { .. } | PackError::Tool { .. })), "{result:?}");
}

#[test]
fn a_missing_tool_is_named_with_its_package() {
    let tool = PackTool { name: "mksquashfs-none-such", ..MKSQUASHFS };
    let dir = tempfile::tempdir().unwrap();
    let error = find_tool(tool, &Cache::open(dir.path()).unwrap()).unwrap_err();
    assert_eq!(
        crate::error::Failure::from(error).to_string(),
        "error: `mksquashfs-none-such` is missing, which `[root] image = \"squashfs\"` needs\n  \
         help: install it (`apt-get install squashfs-tools`), or take `[root] image = \"cpio\"`, which needs no tool"
    );
}
