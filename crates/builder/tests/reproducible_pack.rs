//! The bytes of a segment depend on its entries and settings alone; a segment that did not change is not packed again.

use bootwright::entry::Kind;
use bootwright::pack::PackSettings;
use bootwright::recipe::{Compression, SegmentName};
use bootwright_contract::RootImage;
use std::process::Command;
use testkit::need::have;
use testkit::trees::{entry, file, many_kinds, pack, settings};

const JOBS: &str = "BOOTWRIGHT_TEST_JOBS";

fn all_settings() -> Vec<(SegmentName, PackSettings)> {
    let cpio = |how| (SegmentName::Root, settings(RootImage::Cpio, "zstd", None, how));
    let mut all = vec![
        cpio(Compression::None),
        cpio(Compression::Gzip(9)),
        cpio(Compression::Xz { level: 6, x86: true }),
        cpio(Compression::Zstd(19)),
        (SegmentName::Boot, settings(RootImage::Cpio, "zstd", None, Compression::Zstd(3))),
        (SegmentName::Config, settings(RootImage::Cpio, "zstd", None, Compression::Zstd(3))),
    ];
    if have(&["mksquashfs"]) {
        for (compressor, level) in [("zstd", Some(15)), ("xz", None), ("gzip", None)] {
            let how = settings(RootImage::Squashfs, compressor, level, Compression::None);
            all.push((SegmentName::Root, how));
        }
    }
    if have(&["mkfs.erofs"]) {
        all.push((SegmentName::Root, settings(RootImage::Erofs, "lz4hc", None, Compression::None)));
    }
    all
}

/// Prints the hash of each segment when [`JOBS`] is set: the test below runs it so in several surroundings.
#[test]
fn print_hashes() {
    let Some(jobs) = std::env::var(JOBS).ok().and_then(|text| text.parse().ok()) else { return };
    let dir = tempfile::tempdir().expect("a folder");
    for (name, how) in all_settings() {
        let packed = pack(dir.path(), name, &many_kinds(how.root.image != RootImage::Erofs), &how, jobs);
        println!("hash {} {:?} {}", packed.sha256, how.root.image, packed.size);
    }
}

fn hashes(umask: &str, jobs: usize, folder: &std::path::Path, env: &[(&str, &str)]) -> Vec<String> {
    let own = std::env::current_exe().expect("the test's own path");
    let script = format!("umask {umask}; exec \"$0\" --exact print_hashes --nocapture --test-threads=1");
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(own)
        .env(JOBS, jobs.to_string())
        .env("TMPDIR", folder)
        .envs(env.iter().copied())
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines: Vec<String> = text.lines().filter(|l| l.starts_with("hash ")).map(Into::into).collect();
    assert!(lines.len() >= 6, "{text}");
    lines
}

#[test]
fn surroundings_do_not_change_the_bytes() {
    let here = tempfile::tempdir().expect("a folder");
    let shm = std::path::Path::new("/dev/shm");
    let other = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.expect("a folder");
    let first = hashes("022", 1, here.path(), &[("TZ", "UTC"), ("LC_ALL", "C")]);
    let second = hashes(
        "077",
        3,
        other.path(),
        &[("TZ", "Asia/Tokyo"), ("LC_ALL", "de_DE.UTF-8"), ("SOURCE_DATE_EPOCH", "1700000000"), ("HOME", "/nowhere")],
    );
    assert_eq!(first, second);
}

#[test]
fn only_what_changed_is_packed_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let how = settings(RootImage::Cpio, "zstd", None, Compression::Zstd(3));
    let mut tree = many_kinds(false);
    let pack_all = |tree: &_| SegmentName::OF_TREE.map(|name| pack(dir.path(), name, tree, &how, 2));
    let first = pack_all(&tree);
    assert_eq!(first.each_ref().map(|s| s.reused), [false; 3]);
    let again = pack_all(&tree);
    assert_eq!(again.each_ref().map(|s| s.reused), [true; 3]);
    assert_eq!(
        again.each_ref().map(|s| (s.sha256, s.size, &s.components)),
        first.each_ref().map(|s| (s.sha256, s.size, &s.components))
    );

    let changed = entry(SegmentName::Config, "empty", file("not any more"), 0o644);
    tree.entries.insert((SegmentName::Config, "empty".into()), changed);
    let third = pack_all(&tree);
    assert_eq!(third.each_ref().map(|s| s.reused), [true, true, false]);
    assert_ne!(third[2].sums_sha256, first[2].sums_sha256);

    let how = settings(RootImage::Cpio, "zstd", None, Compression::Zstd(4));
    assert!(!pack(dir.path(), SegmentName::Boot, &tree, &how, 2).reused, "another level");
}

#[test]
fn a_damaged_cache_entry_is_packed_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let how = settings(RootImage::Cpio, "zstd", None, Compression::Zstd(3));
    let tree = many_kinds(false);
    let first = pack(dir.path(), SegmentName::Boot, &tree, &how, 1);
    std::fs::remove_file(&first.path).expect("it is removed");
    let second = pack(dir.path(), SegmentName::Boot, &tree, &how, 1);
    assert_eq!((second.reused, second.sha256), (false, first.sha256));
    assert!(second.path.is_file());
}

#[test]
fn facts_of_a_segment() {
    let dir = tempfile::tempdir().expect("a folder");
    let how = settings(RootImage::Cpio, "zstd", None, Compression::None);
    let tree = many_kinds(false);
    let packed = pack(dir.path(), SegmentName::Boot, &tree, &how, 1);
    let bodies: Vec<u64> = tree
        .segment(SegmentName::Boot)
        .filter_map(|e| if let Kind::File(body) = &e.entry.kind { Some(body.size) } else { None })
        .collect();
    // The sums file is resident too: a page.
    let pages: u64 = bodies.iter().map(|size| size.div_ceil(4096)).sum::<u64>() + 1;
    assert_eq!((packed.resident, packed.files), (pages * 4096, bodies.len() as u64 + 2));
    assert_eq!(packed.components["test"].raw, bodies.iter().sum::<u64>());
    assert_eq!(packed.size % 512, 0);
    assert!(packed.size - packed.unpacked >= 4);
}
