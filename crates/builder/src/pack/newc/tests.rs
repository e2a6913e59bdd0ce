use super::*;
use crate::entry::{BodyAt, Sha256};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::Read;

fn entry(path: &str, kind: Kind) -> Entry {
    Entry::of_root(path, kind, 0o644)
}

fn file(path: &str, bytes: &[u8]) -> Entry {
    entry(path, Kind::File(Body::from_bytes(bytes)))
}

fn write(entries: &[Entry]) -> Result<Vec<u8>, PackError> {
    let mut out = Vec::new();
    write_archive(entries, &mut out, |cause| PackError::Compress { segment: "test", cause })?;
    Ok(out)
}

/// Name, mode, inode, links and data of each record, read by the crate's own reader.
fn read(archive: &[u8]) -> Vec<(String, u32, u32, u32, Vec<u8>)> {
    let mut rest = archive;
    let mut found = Vec::new();
    loop {
        let mut reader = cpio::newc::Reader::new(rest).unwrap();
        let mut data = Vec::new();
        reader.read_to_end(&mut data).unwrap();
        let e = reader.entry();
        assert_eq!(e.mtime(), 0);
        if e.is_trailer() {
            assert!(reader.finish().unwrap().is_empty(), "the trailer ends the archive");
            return found;
        }
        found.push((e.name().to_string(), e.mode(), e.ino(), e.nlink(), data));
        rest = reader.finish().unwrap();
    }
}

#[test]
fn hard_links_share_an_inode_and_the_last_has_the_data() {
    let link = |path: &str| entry(path, Kind::Hardlink("m".into()));
    let archive = write(&[link("a"), file("b", b"other"), file("m", b"data"), link("z")]).unwrap();
    let found = read(&archive);
    let (a, m, z) = (&found[0], &found[2], &found[3]);
    assert_eq!((a.2, m.2, z.2), (1, 1, 1), "one inode");
    assert_eq!((a.3, m.3, z.3), (3, 3, 3), "three links");
    assert_eq!((&a.4[..], &m.4[..], &z.4[..]), (&b""[..], &b""[..], &b"data"[..]));
    assert_eq!((found[1].2, found[1].3), (2, 1));
}

#[test]
fn what_newc_cannot_hold_is_refused() {
    let huge = |size| Kind::File(Body { sha256: Sha256([0; 32]), size, at: BodyAt::Memory([].into()) });
    assert!(matches!(write(&[entry("x", huge(1 << 32))]), Err(PackError::TooLarge { .. })));
    assert!(matches!(archive_size(&[entry("x", huge(100 << 30))]), Err(PackError::TooLarge { .. })));
    for bad in ["", "/abs", "TRAILER!!!", "nul\0", &"x".repeat(256), &"x/".repeat(2046)] {
        assert!(matches!(write(&[file(bad, b"")]), Err(PackError::BadEntry { .. })), "{bad:.20}");
    }
    for target in ["", &"x".repeat(4096)] {
        assert!(matches!(write(&[entry("l", Kind::Symlink(target.into()))]), Err(PackError::BadEntry { .. })));
    }
    assert!(matches!(write(&[file("b", b""), file("a", b"")]), Err(PackError::BadEntry { .. })), "not sorted");
    assert!(matches!(write(&[file("a", b""), file("a", b"")]), Err(PackError::BadEntry { .. })), "twice");
    assert!(matches!(write(&[entry("l", Kind::Hardlink("none".into()))]), Err(PackError::BadEntry { .. })));
}

#[test]
fn a_file_that_changed_is_noticed() {
    let disk = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(disk.path(), b"12345").unwrap();
    let at = |size| BodyAt::File { path: disk.path().into(), offset: 5 - size };
    let body = |size, sha256| Kind::File(Body { sha256, size, at: at(size) });
    write(&[entry("x", body(3, Sha256::of(b"345")))]).unwrap();
    assert!(matches!(write(&[entry("x", body(3, Sha256::of(b"346")))]), Err(PackError::Changed { .. })));
    std::fs::write(disk.path(), b"123").unwrap();
    assert!(matches!(write(&[entry("x", body(3, Sha256::of(b"345")))]), Err(PackError::Changed { .. })));
    std::fs::remove_file(disk.path()).unwrap();
    assert!(matches!(write(&[entry("x", body(3, Sha256::of(b"345")))]), Err(PackError::Read { .. })));
}

#[test]
fn a_full_disk_is_reported() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            let n = bytes.len().min(self.0);
            self.0 -= n;
            Ok(n)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let entries = [file("a", &[1; 1000]), file("b", b"x")];
    for room in [0, 50, 120, 600, 1200, 1300] {
        let failed = |cause| PackError::Compress { segment: "test", cause };
        let result = write_archive(&entries, &mut Full(room), failed);
        assert!(matches!(result, Err(PackError::Compress { .. })), "{room}: {result:?}");
    }
}

proptest! {
    #[test]
    fn archives_round_trip(
        files in prop::collection::btree_map("[a-zA-Z0-9_äß .-]{1,40}(/[a-z]{1,100}){0,3}", prop::collection::vec(any::<u8>(), 0..70), 0..30),
        mode in 0u32..0o10000,
    ) {
        let entries: Vec<Entry> =
            files.iter().map(|(path, bytes)| Entry { mode, ..file(path, bytes) }).collect();
        let archive = write(&entries).unwrap();
        prop_assert_eq!(archive.len() as u64, archive_size(&entries).unwrap());
        prop_assert_eq!(archive.len() % 4, 0);
        let found: BTreeMap<String, Vec<u8>> = read(&archive)
            .into_iter()
            .inspect(|record| assert_eq!(record.1, 0o100000 | mode))
            .map(|record| (record.0, record.4))
            .collect();
        prop_assert_eq!(found, files);
    }
}
