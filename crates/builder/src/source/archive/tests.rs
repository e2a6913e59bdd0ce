use super::*;
use crate::entry::BodyAt;
use std::io::Write;

struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Adds an entry with that name as it is, also one that the writer of `tar` would refuse.
    fn add(mut self, kind: EntryType, name: &str, link: &str, body: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(body.len() as u64);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_cksum();
        self.0.append(&header, body).unwrap();
        self
    }

    fn file(self, name: &str, body: &[u8]) -> Self {
        self.add(EntryType::Regular, name, "", body)
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn read_with(bytes: &[u8], limits: Limits) -> Result<Vec<Entry>, SourceError> {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
    let reader = decompress(bytes, 2).unwrap();
    open_unpacked(&cache, "k", |into| read_tar(reader, "a.tar", limits, into))
}

fn read(bytes: &[u8]) -> Result<Vec<Entry>, SourceError> {
    read_with(bytes, Limits { file_bytes: 1 << 20, total_bytes: 1 << 21, entries: 100, devices: false })
}

#[track_caller]
fn refused(tar: Tar, expected: &str) {
    let error = read(&tar.bytes()).unwrap_err().to_string();
    assert_eq!(error, format!("`a.tar`: {expected}"));
}

#[test]
fn entries_keep_what_an_image_needs() {
    let tar = Tar::new()
        .add(EntryType::Directory, "./", "", b"")
        .add(EntryType::Directory, "./usr/", "", b"")
        .file("/usr/tool", b"old")
        .file("./usr/tool", b"#!")
        .add(EntryType::Link, "usr/again", "./usr/tool", b"")
        .add(EntryType::Symlink, "usr/abs", "/etc/x", b"")
        .add(EntryType::Symlink, "usr/rel", "../etc/x", b"")
        .bytes();
    let entries = read(&tar).unwrap();
    let listed: Vec<String> = entries.iter().map(|e| format!("{} {:o} {}:{}", e.path, e.mode, e.uid, e.gid)).collect();
    let expected = ["usr", "usr/abs", "usr/again", "usr/rel", "usr/tool"].map(|p| format!("{p} 4755 7:8"));
    assert_eq!(listed, expected);
    assert_eq!(entries[1].kind, Kind::Symlink("/etc/x".into()));
    assert_eq!(entries[2].kind, Kind::Hardlink("usr/tool".into()));
    assert_eq!(entries[3].kind, Kind::Symlink("../etc/x".into()));
    let Kind::File(body) = &entries[4].kind else { panic!("{:?}", entries[4]) };
    assert_eq!((body.sha256, body.size), (Sha256::of(b"#!"), 2));
    assert!(matches!(body.at, BodyAt::File { offset: 16, .. }));
}

#[test]
fn paths_that_leave_the_tree_are_refused() {
    refused(Tar::new().file("a/../../etc/passwd", b"x"), "a path with `..` at `a/../../etc/passwd`");
    refused(Tar::new().file("../x", b"x"), "a path with `..` at `../x`");
    refused(Tar::new().add(EntryType::Link, "x", "../etc/shadow", b""), "a hard link to a path with `..` at `x`");
    refused(
        Tar::new().add(EntryType::Link, "x", "/etc/shadow", b""),
        "a hard link to `etc/shadow`, which is no file of the archive at `x`",
    );
    refused(
        Tar::new().add(EntryType::Symlink, "usr/x", "../../etc", b""),
        "a symlink out of the tree, to `../../etc` at `usr/x`",
    );
    refused(
        Tar::new().add(EntryType::Symlink, "a", "/etc", b"").file("a/passwd", b"x"),
        "it lies below `a`, which is no folder at `a/passwd`",
    );
    refused(
        Tar::new().file("a/passwd", b"x").add(EntryType::Symlink, "a", "/etc", b""),
        "it replaces a folder that holds other entries at `a`",
    );
}

#[test]
fn devices_are_refused_unless_allowed() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        refused(Tar::new().add(kind, "dev/x", "", b""), "a device node or fifo at `dev/x`");
    }
    let mut header = tar::Header::new_gnu();
    header.set_path("dev/null").unwrap();
    header.set_entry_type(EntryType::Char);
    header.set_device_major(1).unwrap();
    header.set_device_minor(3).unwrap();
    header.set_mode(0o666);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header.set_cksum();
    let mut tar = Tar::new();
    tar.0.append(&header, io::empty()).unwrap();
    let limits = Limits { devices: true, ..Limits::default() };
    assert_eq!(read_with(&tar.bytes(), limits).unwrap()[0].kind, Kind::CharDevice { major: 1, minor: 3 });
}

/// 100 GB that take one header: refused before a byte of it is written.
#[test]
fn a_huge_sparse_file_is_refused() {
    let mut header = tar::Header::new_gnu();
    header.set_path("huge").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(0);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    let gnu = header.as_gnu_mut().unwrap();
    // Eleven octal digits end at 8 GiB: base 256, as GNU tar writes it.
    let size: u64 = 100_000_000_000;
    gnu.realsize[0] = 0x80;
    gnu.realsize[4..].copy_from_slice(&size.to_be_bytes());
    gnu.sparse[0].offset[0] = 0x80;
    gnu.sparse[0].offset[4..].copy_from_slice(&size.to_be_bytes());
    gnu.sparse[0].numbytes.copy_from_slice(b"00000000000\0");
    header.set_cksum();
    let mut tar = Tar::new();
    tar.0.append(&header, io::empty()).unwrap();
    refused(tar, "a file of 100000000000 bytes, over the limit of 1048576 at `huge`");
}

#[test]
fn sizes_and_counts_are_bounded() {
    let big = vec![0; 900_000];
    refused(Tar::new().file("a", &big).file("b", &big).file("c", &big), "more than 2097152 bytes of files at `c`");
    let many = (0..101).fold(Tar::new(), |tar, i| tar.file(&format!("f{i}"), b""));
    refused(many, "more than 100 entries at `f100`");
    // A "long name" of 5 MiB is read into memory by the reader.
    let long = Tar::new().add(EntryType::GNULongName, "././@LongLink", "", &vec![b'a'; 5 << 20]);
    refused(long, "cannot be read: headers of more than 4194304 bytes at ``");
    let mut cut = Tar::new().file("a", &[1; 5000]).bytes();
    cut.truncate(512 + 4000);
    let error = read(&cut).unwrap_err().to_string();
    assert_eq!(error, "`a.tar`: truncated: found 4000 of 5000 bytes at `a`");
}

#[test]
fn odd_entries_are_refused_not_skipped() {
    refused(Tar::new().add(EntryType::new(b'V'), "label", "", b""), "an entry of type `V` at `label`");
    let mut tar = Tar::new();
    tar.0.append_pax_extensions([("GNU.sparse.major", &b"1"[..])]).unwrap();
    refused(tar.file("GNUSparseFile.0/x", b"1\n0\n5\nhello"), "a sparse file in pax form at `GNUSparseFile.0/x`");
    let mut bytes = Tar::new().file("caf_", b"").bytes();
    bytes[3] = 0xe9;
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|&b| u32::from(b)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(read(&bytes).unwrap_err().to_string().contains("not UTF-8"));
}

#[test]
fn long_names_and_git_comments_are_read() {
    let long = format!("d/{}", "n".repeat(300));
    for pax in [false, true] {
        let mut tar = Tar::new().add(EntryType::XGlobalHeader, "pax_global_header", "", b"16 comment=abcd\n");
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        if pax {
            tar.0.append_pax_extensions([("path", long.as_bytes())]).unwrap();
            header.set_path("short").unwrap();
            header.set_cksum();
            tar.0.append(&header, &b"hi"[..]).unwrap();
        } else {
            tar.0.append_data(&mut header, &long, &b"hi"[..]).unwrap();
        }
        assert_eq!(read(&tar.bytes()).unwrap()[0].path, long, "pax: {pax}");
    }
}

#[test]
fn every_compression_is_known_by_its_magic() {
    let plain = Tar::new().file("a", &[7; 100_000]).bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let blocks = liblzma::stream::MtStreamBuilder::new().threads(2).block_size(20_000).preset(0).encoder().unwrap();
    let mut xz = liblzma::write::XzEncoder::new_stream(Vec::new(), blocks);
    xz.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for packed in [plain.clone(), gzip.finish().unwrap(), xz.finish().unwrap(), zstd] {
        assert_eq!(read(&packed).unwrap().len(), 1, "{:x?}", &packed[..6]);
        assert!(packed == plain || read(&packed[..packed.len() / 2]).is_err(), "half of it was accepted");
    }
}

proptest::proptest! {
    /// Damage anywhere ends in entries inside the tree or in an error.
    #[test]
    fn damage_never_leaves_the_tree(at in 0usize..2048, value: u8, cut in 0usize..2560) {
        let mut bytes = Tar::new().file("a/b", b"x").add(EntryType::Symlink, "a/c", "b", b"").bytes();
        bytes[at] = value;
        if let Ok(entries) = read(&bytes[..cut.min(bytes.len())]) {
            for entry in entries {
                proptest::prop_assert_eq!(parse_entry_path(&entry.path), Ok(entry.path.clone()));
            }
        }
    }
}
