use super::explain::explain;
use super::initrd::{InitrdSegment, SegmentPacking, read_initrd};
use super::newc::InitrdLimits;
use super::*;
use crate::emit::manifest::{FileKind, FileRecord, Manifest};
use crate::recipe::SegmentName;
use crate::tree::Reason;
use cpio::newc::{Builder, trailer};
use std::io::Write;

/// An archive as the `cpio` crate writes it: name, mode with type, body.
fn archive(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, mode, body) in entries {
        let mut writer = Builder::new(name).mode(*mode).uid(1).gid(2).write(&mut out, body.len() as u32);
        writer.write_all(body).unwrap();
        writer.finish().unwrap();
    }
    trailer(&mut out).unwrap();
    out
}

const DIR: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;

fn sample() -> Vec<u8> {
    archive(&[
        ("./etc", DIR, b""),
        ("etc/a", FILE, b"12345"),
        ("etc/b", LINK, b"a"),
        ("usr/bin/x", 0o104_755, &[7; 9000]),
    ])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn xz_with(bytes: &[u8], check: liblzma::stream::Check) -> Vec<u8> {
    let stream = liblzma::stream::Stream::new_easy_encoder(0, check).unwrap();
    let mut out = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    xz_with(bytes, liblzma::stream::Check::Crc32)
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn read(bytes: &[u8]) -> Vec<InitrdSegment> {
    read_initrd(bytes, InitrdLimits::default()).unwrap()
}

fn paths(segment: &InitrdSegment) -> Vec<&str> {
    segment.entries.iter().map(|e| e.path.as_str()).collect()
}

#[test]
fn entries_are_read_as_they_were_written() {
    let segments = read(&sample());
    assert_eq!(segments.len(), 1);
    assert_eq!((segments[0].offset, segments[0].packed), (0, sample().len() as u64));
    let listed: Vec<String> = segments[0]
        .entries
        .iter()
        .map(|e| format!("{:?} {} {}:{} {} {} {:?}", e.kind, e.mode, e.uid, e.gid, e.size, e.path, e.target))
        .collect();
    let expected = [
        "Dir 0755 1:2 0 etc None",
        "File 0644 1:2 5 etc/a None",
        "Symlink 0777 1:2 0 etc/b Some(\"a\")",
        "File 4755 1:2 9000 usr/bin/x None",
    ];
    assert_eq!(listed, expected);
}

#[test]
fn segments_of_all_kinds_follow_one_another() {
    let microcode = archive(&[("kernel/x86/microcode/GenuineIntel.bin", FILE, &[1; 100])]);
    let mut whole = microcode.clone();
    whole.resize(whole.len().next_multiple_of(512), 0);
    let mut offsets = vec![0];
    for part in [zstd(&sample()), xz(&sample()), gzip(&[sample(), vec![0; 600], sample()].concat()), sample()] {
        whole.resize(whole.len().next_multiple_of(4), 0);
        offsets.push(whole.len() as u64);
        whole.extend(part);
    }
    let segments = read(&whole);
    let kinds: Vec<SegmentPacking> = segments.iter().map(|s| s.compression).collect();
    assert_eq!(
        kinds,
        [SegmentPacking::None, SegmentPacking::Zstd, SegmentPacking::Xz, SegmentPacking::Gzip, SegmentPacking::None]
    );
    assert_eq!(segments.iter().map(|s| s.offset).collect::<Vec<_>>(), offsets);
    assert_eq!(segments.iter().map(|s| s.entries.len()).collect::<Vec<_>>(), [1, 4, 4, 8, 4]);
    assert_eq!(segments.iter().map(|s| s.early_microcode).collect::<Vec<_>>(), [true, false, false, false, false]);
    assert!(segments.iter().all(|s| s.problem.is_none()), "{segments:?}");
    assert_eq!(segments.iter().map(|s| s.packed).sum::<u64>(), whole.len() as u64);
    assert_eq!(segments[1].unpacked, sample().len() as u64);
}

#[test]
fn what_cannot_be_decoded_is_named() {
    let mut whole = sample();
    whole.extend(b"\x02\x21\x4c\x18whatever follows");
    let segments = read(&whole);
    assert_eq!(segments[1].compression, SegmentPacking::Lz4Legacy);
    assert!(segments[1].problem.as_ref().unwrap().contains("lz4 (legacy) is not decoded"));
    assert_eq!(read(b"\x89LZO")[0].compression, SegmentPacking::Lzo);
    assert_eq!(read(b"#!/bin/sh\n")[0].problem.as_deref(), Some("invalid magic at start of compressed archive"));
    assert_eq!(read(b"\0\0\0\0"), []);
}

#[test]
fn damage_is_named_with_its_place() {
    let problem = |bytes: &[u8]| read(bytes).pop().unwrap().problem.unwrap_or_default();
    let good = sample();
    let mut bad = good.clone();
    // The second header: 110 bytes and a name of 6 come before it.
    bad[116] = b'X';
    assert_eq!(problem(&bad), "invalid magic at start of compressed archive");
    bad[116..122].copy_from_slice(b"070707");
    assert_eq!(problem(&bad), "incorrect cpio method used: use -H newc option, at byte 116");
    let packed = zstd(&good);
    assert!(!problem(&packed[..packed.len() / 2]).is_empty());
    let unaligned = [zstd(&good), vec![0; (5 - zstd(&good).len() % 4) % 4], good.clone()].concat();
    assert!(problem(&unaligned).contains("no multiple of 4"), "{}", problem(&unaligned));
    let few = read_initrd(&good[..], InitrdLimits { entries: 2, ..InitrdLimits::default() }).unwrap();
    assert_eq!(few[0].problem.as_deref(), Some("more than 2 entries"));
    let small = read_initrd(&good[..], InitrdLimits { unpacked: 1000, ..InitrdLimits::default() }).unwrap();
    assert_eq!(small[0].problem.as_deref(), Some("more bytes than any initrd has"));
}

#[test]
fn what_the_kernel_takes_without_a_word_is_noted() {
    let good = sample();
    for cut in [300, good.len() - 2000] {
        let segments = read(&good[..cut]);
        assert_eq!((segments.len(), &segments[0].problem), (1, &None));
        assert_eq!(segments[0].notes, ["cut short, which the kernel does not notice"]);
    }
    let mut huge_name = good.clone();
    huge_name[94..102].copy_from_slice(b"FFFFFFFF");
    assert!(read(&huge_name)[0].notes[0].contains("the entry at byte 0 is passed over: its name has 4294967295 bytes"));
    let packed = gzip(&good);
    let mut wrong_sum = packed.clone();
    *wrong_sum.iter_mut().rev().nth(5).unwrap() ^= 1;
    let segment = read(&wrong_sum).pop().unwrap();
    assert_eq!((segment.problem, segment.entries.len()), (None, 4));
    assert_eq!(segment.notes, ["its checksum is wrong, at which the kernel does not look"]);
}

#[test]
fn an_xz_check_that_the_kernel_lacks_is_refused() {
    use liblzma::stream::Check;
    for (check, problem) in
        [(Check::None, None), (Check::Crc32, None), (Check::Crc64, Some("CRC64")), (Check::Sha256, Some("SHA-256"))]
    {
        let segment = read(&xz_with(&sample(), check)).pop().unwrap();
        match problem {
            None => assert_eq!((segment.problem, segment.entries.len()), (None, 4)),
            Some(name) => assert!(segment.problem.as_ref().is_some_and(|p| p.contains(name)), "{:?}", segment.problem),
        }
    }
}

/// The machine of the VM test `the_kernel_and_inspect_agree` is asked about each of these and more.
#[test]
fn archives_end_without_a_trailer_and_zeros_stand_anywhere() {
    let trailer = archive(&[]);
    let bare = |bytes: Vec<u8>| bytes[..bytes.len() - trailer.len()].to_vec();
    let (a, b) = (archive(&[("a", FILE, b"1234")]), archive(&[("b", FILE, b"12")]));
    let zeros = |n: usize| vec![0; n];
    let whole = [bare(a.clone()), zeros(512), bare(b.clone()), zeros(4), archive(&[("c", DIR, b"")])].concat();
    for bytes in [whole.clone(), gzip(&whole), zstd(&whole)] {
        let segments = read(&bytes);
        assert_eq!((segments.len(), &segments[0].problem), (1, &None));
        assert_eq!(paths(&segments[0]), ["a", "b", "c"]);
    }
    let odd = [bare(a), zeros(2), b].concat();
    assert!(read(&odd)[0].problem.as_ref().unwrap().starts_with("broken padding at byte "));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
        read(&bytes);
    }

    #[test]
    fn any_damage_is_survived(at in 0usize..600, value: u8, cut in 0usize..9600, packed in 0..4) {
        let mut bytes = match packed {
            0 => sample(),
            1 => gzip(&sample()),
            2 => xz(&sample()),
            _ => zstd(&sample()),
        };
        let at = at % bytes.len();
        bytes[at] = value;
        bytes.truncate(cut.max(1));
        let sum: u64 = read(&bytes).iter().map(|s| s.packed).sum();
        proptest::prop_assert!(sum <= bytes.len() as u64);
    }

    #[test]
    fn every_archive_reads_back(
        names in proptest::collection::btree_set("[a-z]{1,9}(/[a-z]{1,9}){0,3}", 1..20),
        size in 0usize..70,
    ) {
        let body = vec![1; size];
        let entries: Vec<(&str, u32, &[u8])> = names.iter().map(|n| (n.as_str(), FILE, &body[..])).collect();
        let segments = read(&archive(&entries));
        let expected: Vec<&str> = names.iter().map(String::as_str).collect();
        proptest::prop_assert_eq!(paths(&segments[0]), expected);
    }
}

#[test]
fn a_foreign_initrd_is_summed_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("initrd.img");
    std::fs::write(&path, zstd(&sample())).unwrap();
    let Inspected::Initrd(report) = load_report(&path, 1, true).unwrap() else { panic!("not an initrd") };
    let segment = &report.segments[0];
    assert_eq!((segment.files, segment.content), (2, 9005));
    assert_eq!((segment.folders[0].path.as_str(), segment.folders[0].size), ("usr/bin", 9000));
    assert_eq!(segment.largest.len(), 1);
    let text = report.to_text();
    assert!(text.contains("etc/b -> a") && text.contains("zstd"), "{text}");
    let json = serde_json::to_value(Inspected::Initrd(report)).unwrap();
    assert_eq!((&json["version"], &json["kind"]), (&1.into(), &"initrd".into()));
    assert_eq!(json["segments"][0]["compression"], "zstd");
    let error = load_report(&dir.path().join("none"), 1, false).unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
    assert!(matches!(load_report(dir.path(), 1, false), Err(InspectError::NoManifest { .. })));
}

fn record(path: &str, kind: FileKind, target: Option<&str>, reason: Reason) -> FileRecord {
    FileRecord {
        path: path.into(),
        segment: SegmentName::Root,
        kind,
        mode: "0755".into(),
        uid: 0,
        gid: 0,
        xattrs: Default::default(),
        size: (kind == FileKind::File).then_some(100),
        packed: None,
        sha256: None,
        target: target.map(Into::into),
        component: "base".into(),
        origin: "recipes/base.toml:9".into(),
        reason,
        gave_way: Vec::new(),
    }
}

fn manifest() -> Manifest {
    let library = |by: &str, soname: &str| Reason::Library { by: by.into(), soname: soname.into() };
    let module = |by: &str, relation: &str| Reason::Module { by: by.into(), relation: relation.into() };
    let wanted = || Reason::Wanted { pattern: "usr/sbin/*".into() };
    Manifest {
        files: vec![
            record("sbin", FileKind::Symlink, Some("usr/sbin"), Reason::Inline),
            record("usr", FileKind::Dir, None, Reason::Parent),
            record("usr/sbin/sshd", FileKind::File, None, wanted()),
            record("usr/lib/libcrypto.so.3", FileKind::File, None, library("usr/sbin/sshd", "libcrypto.so.3")),
            record("usr/lib/libz.so.1.3", FileKind::File, None, Reason::LinkTarget { by: "usr/lib/libz.so.1".into() }),
            record("usr/lib/libz.so.1", FileKind::Symlink, None, library("usr/lib/libcrypto.so.3", "libz.so.1")),
            record("usr/lib/modules/6.12/nf_nat.ko.xz", FileKind::File, None, module("xt-nat", "depends")),
            record(
                "usr/lib/modules/6.12/xt_nat.ko.xz",
                FileKind::File,
                None,
                module("recipes/base.toml:3", "asked for"),
            ),
            record("usr/lib/a.so", FileKind::File, None, library("usr/lib/b.so", "a.so")),
            record("usr/lib/b.so", FileKind::File, None, library("usr/lib/a.so", "b.so")),
        ],
        ..crate::emit::manifest::tests::empty()
    }
}

#[test]
fn a_file_is_explained_back_to_the_recipe() {
    let text = |path: &str| explain(&manifest(), path).unwrap().to_text();
    let expected = "\
/usr/lib/libz.so.1.3 (root segment, base)
  the symlink `usr/lib/libz.so.1` points to it (recipes/base.toml:9)
  /usr/lib/libz.so.1 (root segment, base)
    `usr/lib/libcrypto.so.3` needs the library `libz.so.1` (recipes/base.toml:9)
    /usr/lib/libcrypto.so.3 (root segment, base)
      `usr/sbin/sshd` needs the library `libcrypto.so.3` (recipes/base.toml:9)
      /usr/sbin/sshd (root segment, base)
        `usr/sbin/*` of component `base` asks for it (recipes/base.toml:9)
";
    assert_eq!(text("/usr/lib/libz.so.1.3"), expected);
    assert_eq!(text("/sbin/sshd"), text("usr/sbin/sshd"));
    assert!(text("usr").contains("a folder that `usr/sbin/sshd` needs"));
    let modules = text("/usr/lib/modules/6.12/nf_nat.ko.xz");
    assert!(modules.contains("`xt-nat` depends on it") && modules.contains("asks for this kernel module"), "{modules}");
    assert_eq!(text("usr/lib/a.so").lines().count(), 4, "a cycle ends");
}

#[test]
fn a_path_that_is_not_there_is_met_with_a_suggestion() {
    let help = |path: &str| explain(&manifest(), path).unwrap_err().help();
    assert_eq!(help("/usr/bin/sshd"), "did you mean `/usr/sbin/sshd`?");
    assert_eq!(help("/usr/lib/libz.so.2"), "did you mean `/usr/lib/libz.so.1`, `/usr/lib/libz.so.1.3`?");
    assert!(help("/nothing/like/it").contains("inspect --files"));
}

#[test]
fn an_image_is_summed_up_by_its_manifest() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("manifest.json"), manifest().to_json()).unwrap();
    let Inspected::Image(report) = load_report(dir.path(), 2, true).unwrap() else { panic!("not an image") };
    assert_eq!((report.largest.len(), report.files.len()), (2, 10));
    assert!(report.to_text().contains("sbin -> usr/sbin"));
}
