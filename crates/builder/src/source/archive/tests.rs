use super::rootfs::{Contents, Manner, Rootfs};
use super::*;
use crate::entry::{BodyAt, Kind, parse_entry_path};
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

fn members(bytes: &[u8]) -> Result<Unpacked, SourceError> {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
    let limits = Limits { file_bytes: 1 << 20, total_bytes: 1 << 21, entries: 100 };
    let reader = decompress(bytes, 2).unwrap();
    open_unpacked(&cache, "k", |into| read_tar(reader, "a.tar", limits, into))
}

fn read(bytes: &[u8]) -> Result<Contents, SourceError> {
    let mut rootfs = Rootfs::new(Manner::Tar);
    rootfs.lay("a.tar", &members(bytes)?.members);
    Ok(rootfs.finish())
}

#[track_caller]
fn refused(tar: Tar, expected: &str) {
    let error = read(&tar.bytes()).unwrap_err().to_string();
    assert_eq!(error, format!("`a.tar`: {expected}"));
}

/// The archive is taken, but for its last member.
#[track_caller]
fn flawed(tar: Tar, expected: &str) {
    let flaws = read(&tar.file("good", b"").bytes()).unwrap().flaws;
    let shown: Vec<String> = flaws.iter().map(|flaw| format!("{} at `{}`", flaw.problem, flaw.path)).collect();
    assert_eq!(shown, [expected]);
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
        .add(EntryType::Symlink, "usr/rel", "../../etc/x", b"")
        .file("old/folder/", b"")
        .bytes();
    let Contents { entries, flaws } = read(&tar).unwrap();
    assert_eq!(flaws, []);
    let listed: Vec<String> = entries.iter().map(|e| format!("{} {:o} {}:{}", e.path, e.mode, e.uid, e.gid)).collect();
    let expected = ["old/folder 4755", "usr 4755", "usr/abs 777", "usr/again 4755", "usr/rel 777", "usr/tool 4755"];
    assert_eq!(listed, expected.map(|line| format!("{line} 7:8")));
    assert_eq!(entries[0].kind, Kind::Dir);
    assert_eq!(entries[2].kind, Kind::Symlink("/etc/x".into()));
    assert_eq!(entries[4].kind, Kind::Symlink("../../etc/x".into()));
    assert_eq!(entries[5].kind, Kind::Hardlink("usr/again".into()));
    let Kind::File(body) = &entries[3].kind else { panic!("{:?}", entries[3]) };
    assert_eq!((body.sha256, body.size), (Sha256::of(b"#!"), 2));
    assert!(matches!(body.at, BodyAt::File { offset: 16, .. }));
}

#[test]
fn what_no_image_can_hold_is_named_and_the_rest_is_taken() {
    flawed(Tar::new().file("a/../../etc/passwd", b"x"), "a path with `..` at `a/../../etc/passwd`");
    flawed(Tar::new().add(EntryType::Link, "x", "../etc/shadow", b""), "a hard link to a path with `..` at `x`");
    flawed(
        Tar::new().add(EntryType::Link, "x", "/etc/shadow", b""),
        "a hard link to `etc/shadow`, which is no file of the archive at `x`",
    );
    flawed(
        Tar::new().file("a/passwd", b"x").add(EntryType::Symlink, "a", "/etc", b""),
        "it replaces a folder that holds other entries at `a`",
    );
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        flawed(Tar::new().add(kind, "dev/x", "", b""), "a device node or fifo at `dev/x`");
    }
    flawed(Tar::new().add(EntryType::new(b'Z'), "odd", "", b""), "an entry of type `Z` at `odd`");
    flawed(Tar::new().add(EntryType::Symlink, "x", "", b""), "a link without a target at `x`");
    flawed(Tar::new().file("a\nb", b""), "a path with a NUL or newline at `a\nb`");
    let mut bytes = Tar::new().file("caf_", b"").file("good", b"").bytes();
    bytes[3] = 0xe9;
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|&b| u32::from(b)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let found = read(&bytes).unwrap();
    assert_eq!((found.entries.len(), found.flaws[0].path.as_str()), (1, "caf\\xe9"));
    assert_eq!(found.flaws[0].problem, "a path that is not UTF-8");
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
    flawed(tar, "a file of 100000000000 bytes, over the limit of 1048576 at `huge`");
}

#[test]
fn sizes_and_counts_are_bounded() {
    let big = vec![0; 900_000];
    refused(Tar::new().file("a", &big).file("b", &big).file("c", &big), "more than 2097152 bytes of files at `c`");
    // One that is too large by itself is passed over, and the header behind it is still found.
    flawed(Tar::new().file("huge", &vec![1; 5 << 20]), "a file of 5242880 bytes, over the limit of 1048576 at `huge`");
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
fn files_with_holes_in_every_pax_format() {
    type Records = &'static [(&'static str, &'static [u8])];
    let records: [(Records, &[u8]); 3] = [
        (
            &[
                ("GNU.sparse.size", b"9"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.offset", b"1"),
                ("GNU.sparse.numbytes", b"2"),
                ("GNU.sparse.offset", b"7"),
                ("GNU.sparse.numbytes", b"1"),
            ],
            b"abc",
        ),
        (&[("GNU.sparse.name", b"x"), ("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"1,2,7,1")], b"abc"),
        (
            &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"x"),
                ("GNU.sparse.realsize", b"9"),
            ],
            &[&b"2\n1\n2\n7\n1\n"[..], &[0; 502], b"abc"].concat(),
        ),
    ];
    for (records, body) in records {
        let mut tar = Tar::new();
        tar.0.append_pax_extensions(records.iter().copied()).unwrap();
        let name = if body.len() == 3 && records.len() == 6 { "x" } else { "GNUSparseFile.0/x" };
        let found = read(&tar.file(name, body).file("y", b"").bytes()).unwrap();
        let Kind::File(body) = &found.entries[0].kind else { panic!("{found:?}") };
        assert_eq!((found.entries[0].path.as_str(), body.sha256), ("x", Sha256::of(b"\0ab\0\0\0\0c\0")), "{records:?}");
        assert_eq!((found.entries[1].path.as_str(), found.flaws.len()), ("y", 0));
    }
    for map in [&b"5,2,1,1"[..], b"8,2", b"1,x"] {
        let mut tar = Tar::new();
        tar.0.append_pax_extensions([("GNU.sparse.size", &b"9"[..]), ("GNU.sparse.map", map)]).unwrap();
        flawed(tar.file("x", b"abc"), "a sparse file with a bad map at `x`");
    }
}

#[test]
fn a_global_header_may_say_what_tools_agree_on() {
    let with = |record: &str| {
        let text = format!("{} {record}\n", record.len() + 4);
        Tar::new().add(EntryType::XGlobalHeader, "pax_global_header", "", text.as_bytes()).file("a", b"")
    };
    for record in ["comment=abcd", "mtime=12345", "VENDOR.x=yyy"] {
        assert_eq!(read(&with(record).bytes()).unwrap().entries.len(), 1, "{record}");
    }
    refused(with("path=elsewhere"), "a global pax header with `path` at `pax_global_header`");
    refused(with("size=1234567"), "a global pax header with `size` at `pax_global_header`");
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
        assert_eq!(read(&tar.bytes()).unwrap().entries[0].path, long, "pax: {pax}");
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
        assert_eq!(read(&packed).unwrap().entries.len(), 1, "{:x?}", &packed[..6]);
        assert!(packed == plain || read(&packed[..packed.len() / 2]).is_err(), "half of it was accepted");
    }
}

proptest::proptest! {
    /// Damage anywhere ends in entries inside the tree or in an error.
    #[test]
    fn damage_never_leaves_the_tree(at in 0usize..2048, value: u8, cut in 0usize..2560) {
        let mut bytes = Tar::new().file("a/b", b"x").add(EntryType::Symlink, "a/c", "b", b"").bytes();
        bytes[at] = value;
        if let Ok(contents) = read(&bytes[..cut.min(bytes.len())]) {
            for entry in contents.entries {
                proptest::prop_assert_eq!(parse_entry_path(&entry.path), Ok(entry.path.clone()));
            }
        }
    }
}
