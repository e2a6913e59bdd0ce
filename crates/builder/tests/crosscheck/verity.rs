//! The hash tree of images that servers give out, against veritysetup(8).

use bootwright::entry::Body;
use bootwright::pack::prove;
use std::fs;
use std::process::Command;
use testkit::need::have;

/// Sizes around each border: one block, one block of hashes (128), one block of hashes of hashes (16384), and parts of blocks.
#[test]
fn trees_are_those_of_veritysetup_byte_for_byte() {
    if !have(&["veritysetup"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    for size in [4095usize, 4096, 4097, 128 * 4096, 128 * 4096 + 1, 129 * 4096, 16_384 * 4096, 16_384 * 4096 + 512] {
        let mut bytes: Vec<u8> = (0..size).map(|at| (at / 4096 * 7 + at % 251) as u8).collect();
        let proven = prove("images.img", &Body::from_bytes(bytes.clone())).expect("memory can be read");
        bytes.resize(size.next_multiple_of(4096), 0);
        let (data, tree) = (dir.path().join("data"), dir.path().join("tree"));
        fs::write(&data, &bytes).expect("written");
        fs::write(&tree, b"").expect("written");
        let made = Command::new("veritysetup")
            .args(["format", "--no-superblock", "--salt=-", "--hash=sha256"])
            .args([&data, &tree])
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&made.stdout);
        assert!(made.status.success(), "{size}: {}", String::from_utf8_lossy(&made.stderr));
        assert!(said.contains(&proven.verity.root_hash), "{size}: {said} {proven:?}");
        assert_eq!(proven.verity.blocks as usize * 4096, bytes.len());
        let tail = &proven.tail[bytes.len() - size..];
        assert!(fs::read(&tree).expect("readable") == tail, "{size}: another tree");
        assert_eq!(proven.size as usize, bytes.len() + tail.len());
        bytes.extend(tail);
        assert_eq!(proven.sha256, bootwright::entry::Sha256::of(&bytes), "{size}");
    }
}
