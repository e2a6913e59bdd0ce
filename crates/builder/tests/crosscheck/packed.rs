//! Segments and root images that we pack, read by GNU cpio, unsquashfs, erofs-utils and lsinitramfs.

use crate::run;
use bootwright::entry::Kind;
use bootwright::recipe::{Compression, SegmentName};
use bootwright::segment::PackedSegment;
use bootwright::tree::Tree;
use bootwright_contract::RootImage;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use testkit::need::have;
use testkit::trees::{many_kinds, pack, settings};

/// `cpio -tv` without its date column: mode, links, owner, size or device, name.
fn cpio_listing(archive: &[u8]) -> Vec<String> {
    let listing = run("cpio", &["-tv", "--quiet", "-n"], archive);
    String::from_utf8(listing)
        .expect("names are UTF-8")
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

fn bytes_of(segment: &PackedSegment) -> Vec<u8> {
    let bytes = std::fs::read(&segment.path).expect("the segment is there");
    assert_eq!((bytes.len() as u64, bytes.len() % 4), (segment.size, 0));
    bytes
}

fn decompress(how: Compression, bytes: &[u8]) -> Option<Vec<u8>> {
    let (program, args): (_, &[&str]) = match how {
        Compression::None => return Some(bytes.to_vec()),
        Compression::Gzip(_) => ("gzip", &["-dcq"]),
        Compression::Xz { .. } => ("xz", &["-dc"]),
        Compression::Zstd(_) => ("zstd", &["-dc"]),
    };
    if !have(&[program]) {
        return None;
    }
    // Other decompressors than the kernel's take our padding zeros for garbage: cut off as many as there may be.
    let zeros = bytes.iter().rev().take(3).take_while(|b| **b == 0).count();
    let archive = (0..=zeros).find_map(|n| try_run(program, args, &bytes[..bytes.len() - n]));
    Some(archive.unwrap_or_else(|| panic!("{program} cannot read it")))
}

fn try_run(program: &str, args: &[&str], stdin: &[u8]) -> Option<Vec<u8>> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), stdin).expect("it is written");
    let input = std::fs::File::open(file.path()).expect("it opens");
    let output = Command::new(program).args(args).stdin(input).output().expect("it runs");
    output.status.success().then_some(output.stdout)
}

#[test]
fn gnu_cpio_lists_what_we_packed() {
    if !have(&["cpio"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let tree = many_kinds(true);
    for how in [Compression::None, Compression::Gzip(9), Compression::Xz { level: 6, x86: true }, Compression::Zstd(19)]
    {
        let how_to = settings(RootImage::Cpio, "zstd", None, how);
        let packed = pack(dir.path(), SegmentName::Boot, &tree, &how_to, 2);
        let Some(archive) = decompress(how, &bytes_of(&packed)) else { continue };
        let padding = if how == Compression::None { archive.len() as u64 - packed.unpacked } else { 0 };
        assert_eq!(archive.len() as u64, packed.unpacked + padding, "{how:?}");
        let listing = cpio_listing(&archive);
        for line in [
            "drwxrwxrwt 2 0 0 0 Jan 1 1970 tmp",
            "-rwsr-xr-x 1 0 0 300001 Jan 1 1970 suid",
            "crw------- 1 0 0 5, 1 Jan 1 1970 console",
            "brw-rw---- 1 0 0 259, 300 Jan 1 1970 disk",
            "prw------- 1 0 0 0 Jan 1 1970 pipe",
            "-rw-r----- 1 1000 65534 1 Jan 1 1970 owned",
            "lrwxrwxrwx 1 0 0 8 Jan 1 1970 etc/link -> ../empty",
            // The data is with the last of the three names.
            "-rwxr-xr-x 3 0 0 0 Jan 1 1970 hard",
            "-rwxr-xr-x 3 0 0 0 Jan 1 1970 hard-a",
            "-rwxr-xr-x 3 0 0 5000 Jan 1 1970 hard-b",
        ] {
            assert!(listing.iter().any(|l| l == line), "{how:?}: no line `{line}` in {listing:#?}");
        }
    }
}

#[test]
fn gnu_cpio_unpacks_hard_links_and_long_names() {
    if !have(&["cpio"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let tree = many_kinds(false);
    let packed =
        pack(dir.path(), SegmentName::Config, &tree, &settings(RootImage::Cpio, "zstd", None, Compression::None), 1);
    let to = dir.path().join("to");
    std::fs::create_dir(&to).expect("a folder");
    let to_text = to.to_str().expect("a UTF-8 path");
    run("cpio", &["-id", "--quiet", "--no-absolute-filenames", "-D", to_text], &bytes_of(&packed));
    check_unpacked(&tree, SegmentName::Config, &to.join("bootwright/config"));
}

/// Every entry of the segment is on disk as it was.
fn check_unpacked(tree: &Tree, segment: SegmentName, at: &Path) {
    check_unpacked_by(tree, segment, at, true);
}

/// The same for an unpacker that is not `exact`: it drops set-user-id bits and makes copies of hard links. Whoever is not
/// root is not given such bits by any.
fn check_unpacked_by(tree: &Tree, segment: SegmentName, at: &Path, exact: bool) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let mut inodes: BTreeMap<String, u64> = BTreeMap::new();
    for entry in tree.segment(segment).map(|e| &e.entry) {
        let path = at.join(&entry.path);
        let facts = path.symlink_metadata().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        inodes.insert(entry.path.clone(), facts.ino());
        if !facts.is_symlink() {
            let bits = if exact && nix::unistd::geteuid().is_root() { 0o7777 } else { 0o777 };
            assert_eq!(facts.permissions().mode() & bits, entry.mode & bits, "{}", entry.path);
        }
        match &entry.kind {
            Kind::Dir => assert!(facts.is_dir(), "{}", entry.path),
            Kind::Symlink(to) => assert_eq!(path.read_link().expect("a link").to_str(), Some(to.as_str())),
            Kind::File(body) => {
                assert!(
                    std::fs::read(&path).expect("it is read") == body.read_start(u64::MAX).expect("memory"),
                    "{}",
                    entry.path
                );
            }
            _ => {}
        }
    }
    for entry in tree.segment(segment).map(|e| &e.entry) {
        if exact && let Kind::Hardlink(to) = &entry.kind {
            assert_eq!(inodes[&entry.path], inodes[to], "{} is no hard link to {to}", entry.path);
        }
    }
}

/// Takes the image out of a packed root segment.
fn image_of(packed: &PackedSegment, dir: &Path) -> std::path::PathBuf {
    let to = dir.join("outer");
    std::fs::create_dir_all(&to).expect("a folder");
    run("cpio", &["-idu", "--quiet", "-D", to.to_str().expect("a UTF-8 path")], &bytes_of(packed));
    to.join("bootwright/root.img")
}

#[test]
fn unsquashfs_reads_the_root() {
    if !have(&["mksquashfs", "unsquashfs", "cpio"]) {
        return;
    }
    let tree = many_kinds(true);
    for (compressor, level) in [("zstd", Some(19)), ("xz", None), ("gzip", Some(9)), ("lz4", None), ("lz4hc", None)] {
        let dir = tempfile::tempdir().expect("a folder");
        let how = settings(RootImage::Squashfs, compressor, level, Compression::None);
        let packed = pack(dir.path(), SegmentName::Root, &tree, &how, 2);
        assert!(packed.tool.as_deref().is_some_and(|tool| tool.starts_with("mksquashfs ")), "{packed:?}");
        let image = image_of(&packed, dir.path());
        assert_eq!(packed.image_size, Some(image.metadata().expect("the image").len()));
        let image = image.to_str().expect("a UTF-8 path");
        let listing = String::from_utf8(run("unsquashfs", &["-lln", image], b"")).expect("UTF-8");
        let lines: Vec<String> = listing.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in [
            "drwxr-xr-x 0/0 ",
            "drwxrwxrwt 0/0 3 1970-01-01 00:00 squashfs-root/tmp",
            "-rwsr-xr-x 0/0 300001 1970-01-01 00:00 squashfs-root/suid",
            "crw------- 0/0 5, 1 1970-01-01 00:00 squashfs-root/console",
            "-rw-r----- 1000/65534 1 1970-01-01 00:00 squashfs-root/owned",
            "-rwxr-xr-x 0/0 5000 1970-01-01 00:00 squashfs-root/hard",
        ] {
            assert!(lines.iter().any(|l| l.starts_with(line)), "{compressor}: no line `{line}` in {listing}");
        }
        let plain = many_kinds(false);
        let to = dir.path().join("to");
        let wanted = [
            "-q",
            "-n",
            "-d",
            to.to_str().expect("UTF-8"),
            image,
            "deep",
            "empty",
            "etc",
            "hard",
            "hard-a",
            "hard-b",
            "suid",
            "tmp",
            "umlaut*",
        ];
        run("unsquashfs", &wanted, b"");
        check_unpacked(&plain, SegmentName::Root, &to);
    }
}

#[test]
fn erofs_tools_read_the_root() {
    if !have(&["mkfs.erofs", "fsck.erofs", "dump.erofs", "cpio"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let tree = many_kinds(false);
    let packed = pack(
        dir.path(),
        SegmentName::Root,
        &tree,
        &settings(RootImage::Erofs, "lz4hc", Some(12), Compression::None),
        2,
    );
    let image = image_of(&packed, dir.path());
    let to = dir.path().join("to");
    let extract = format!("--extract={}", to.display());
    run("fsck.erofs", &[&extract, "--preserve-perms", image.to_str().expect("UTF-8")], b"");
    check_unpacked_by(&tree, SegmentName::Root, &to, false);
    let dump = |path: &str| {
        let facts = run("dump.erofs", &[&format!("--path={path}"), image.to_str().expect("UTF-8")], b"");
        String::from_utf8(facts).expect("UTF-8")
    };
    assert!(dump("/hard").contains("Links: 3"), "{}", dump("/hard"));
    // dump.erofs shows the permissions only: the inode has the rest (Documentation/filesystems/erofs.rst, i_mode).
    let facts = dump("/suid");
    let words: Vec<&str> = facts.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "NID:").expect("it names the inode");
    let nid: usize = words[at + 1].parse().expect("a number");
    let bytes = std::fs::read(&image).expect("the image");
    let number = |at: usize, n: usize| bytes[at..at + n].iter().rev().fold(0, |sum, b| sum << 8 | usize::from(*b));
    let meta_block = number(1024 + 40, 4);
    assert_eq!(number(meta_block * 4096 + nid * 32 + 4, 2), 0o104755);
}

#[test]
fn lsinitramfs_reads_the_segments_one_after_another() {
    if !have(&["lsinitramfs", "cpio"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let tree = many_kinds(false);
    let mut how = settings(RootImage::Cpio, "zstd", None, Compression::None);
    how.volatile = Compression::Gzip(6);
    let mut initrd = Vec::new();
    for name in SegmentName::OF_TREE {
        initrd.extend(bytes_of(&pack(dir.path(), name, &tree, &how, 1)));
    }
    let path = dir.path().join("initrd.img");
    std::fs::write(&path, initrd).expect("it is written");
    let listing = run("lsinitramfs", &[path.to_str().expect("UTF-8")], b"");
    let listing = String::from_utf8(listing).expect("UTF-8");
    for name in ["bootwright/sums/boot", "bootwright/root/etc/link", "bootwright/config/hard-b"] {
        assert!(listing.lines().any(|line| line == name), "no `{name}` in {listing}");
    }
}
