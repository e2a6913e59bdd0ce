//! A server of a root that is back with other content: each block that differs is refused, told, and all others are read on.

use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;
use testkit::folders::work_folder;
use testkit::image::Image;
use testkit::ssh::{ssh, ssh_ok};
use testkit::tool::tool;
use testkit::vm::{Running, wait_until};

const BLOCK: u64 = 4096;

/// The blocks of `root.img` that hold data, and the root's hash.
fn blocks(image: &Image) -> u64 {
    let manifest = fs::read(image.dir().join("manifest.json")).expect("the image was built");
    let manifest: Value = serde_json::from_slice(&manifest).expect("it is JSON");
    let size = manifest["root"]["image_size"].as_u64().expect("a network root");
    // Of n blocks, n / 128 are leaves of the tree, and so on up to one.
    let tree = |blocks: u64| {
        let (mut level, mut sum) = (blocks, 0);
        while level > 1 {
            level = level.div_ceil(128);
            sum += level;
        }
        sum
    };
    (1..size / BLOCK).find(|data| data + tree(*data) == size / BLOCK).expect("the tree follows the data")
}

fn flip(disk: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(disk).expect("it is the test's own");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("it is as long as that");
    file.write_all_at(&[byte[0] ^ 1], at).expect("it is the test's own");
}

/// The files that the tool names for a block.
fn needed_for(image: &Image, block: u64) -> Vec<String> {
    let root = image.root.as_deref().expect("its root is on a server");
    let mut explain = tool();
    explain.args(["explain", "--json", "--recipe", &image.recipe, "--root", root, "--block", &block.to_string()]);
    let told = explain.arg("--out").arg(&image.out).unwrap();
    let told: Value = serde_json::from_slice(&told.stdout).expect("it is JSON");
    let paths = told["contents"].as_array().expect("a list").iter();
    paths.map(|content| content["path"].as_str().expect("a path").to_string()).collect()
}

/// Bytes of a file that nobody reads and that does not compress: in the image it lies as it is.
const SPARE: u64 = 2 << 20;

fn spare() -> Vec<u8> {
    (0..SPARE / 8).flat_map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).to_le_bytes()).collect()
}

/// For a recipe: a large file in the root.
pub fn recipe() -> String {
    let folder = work_folder().join("spare");
    fs::create_dir_all(folder.join("srv")).expect("cargo's folder for tests is writable");
    fs::write(folder.join("srv/spare"), spare()).expect("cargo's folder for tests is writable");
    format!(
        "[[overlay]]\nname = \"spare\"\ndir = {folder:?}\nsegment = \"root\"\n[budget]\nboot_files_mb = 40\nram_mib = 256\n"
    )
}

/// `away` kills the server, `back` starts it again. `disk` is what it serves.
#[track_caller]
pub fn changed_blocks_are_refused(
    machine: &Running,
    image: &Image,
    disk: &Path,
    away: impl FnOnce(),
    back: impl FnOnce(),
) {
    let bytes = fs::read(disk).expect("it is served");
    let wanted = &spare()[4096..4160];
    let start = bytes.windows(64).position(|window| window == wanted).expect("the file is in the image");
    let first_leaf = (start as u64 / BLOCK).div_ceil(128);
    let wrong = (first_leaf + 2) * 128 + 3;
    let data = blocks(image);
    let leaf = bytes.len() as u64 / BLOCK - data.div_ceil(128) + first_leaf;
    away();
    flip(disk, wrong * BLOCK + 77);
    flip(disk, leaf * BLOCK + 5);
    wait_until("the loss is told", Duration::from_secs(30), || image.console().contains(" is lost"));
    back();
    wait_until("it is connected again", Duration::from_secs(30), || image.console().contains(" is back after "));
    // What was read before is thrown away: pages, and what dm-verity keeps of the tree.
    let forget = "echo 0 > /sys/module/dm_bufio/parameters/retain_bytes; echo 3 > /proc/sys/vm/drop_caches; sleep 1";
    ssh_ok(machine, forget);
    let read = |block: u64| {
        let dd = format!("dd if=/dev/dm-0 of=/dev/null bs=4096 skip={block} count=1");
        ssh(machine, &dd).status.success()
    };
    assert!(!read(wrong), "a changed block was read");
    assert!(read(wrong - 1) && read(wrong + 1), "its neighbours are as they were");
    assert!(!read(first_leaf * 128 + 7), "a block was read whose hash was changed");
    assert!(read((first_leaf + 1) * 128), "the blocks of the next leaf are as they were");
    for (block, what) in [(wrong, "data"), (leaf, "hash tree")] {
        let line = format!(
            "block {block} ({what}) is not that of this build and is refused: `bootwright explain --block {block}` "
        );
        wait_until(&line, Duration::from_secs(10), || image.console().contains(&line));
        assert!(needed_for(image, block).contains(&"srv/spare".to_string()), "{what}");
    }
    let roots = ssh_ok(machine, "cat /run/bootwright/roots.json");
    let roots: Value = serde_json::from_str(&roots).expect("it is JSON");
    assert!(roots[0]["refused"].as_u64().is_some_and(|refused| refused >= 2), "{roots}");
    let status = ssh_ok(machine, "bootwright-ctl status");
    assert!(status.contains("refused blocks: "), "{status}");
    // Everything else goes on.
    assert!(!ssh(machine, "cat /srv/spare > /dev/null").status.success(), "a program read what is wrong");
    ssh_ok(machine, "sha256sum /usr/bin/busybox");
}
