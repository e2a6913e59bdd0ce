//! Programs and files out of a built worker.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Unpacks programs of `usr/bin` from the root of an image whose root is squashfs in its initrd, below `dir`; where they are.
pub fn programs_of(image: &Path, dir: &Path, names: &[&str]) -> Vec<PathBuf> {
    let paths: Vec<String> = names.iter().map(|name| format!("usr/bin/{name}")).collect();
    let tree = unpack_root(image, dir, &paths);
    names.iter().map(|name| tree.join("usr/bin").join(name)).collect()
}

/// Unpacks paths, or everything, from the root of such an image below `dir`; the tree.
pub fn unpack_root(image: &Path, dir: &Path, paths: &[String]) -> PathBuf {
    let root = File::open(image.join("segments/root.cpio")).expect("the root is one image, not packed");
    let mut archive = cpio::NewcReader::new(root).expect("it is a newc archive");
    while archive.entry().name() != "bootwright/root.img" {
        assert!(!archive.entry().is_trailer(), "no root image in the initrd");
        archive = cpio::NewcReader::new(archive.finish().expect("it can be read")).expect("it is a newc archive");
    }
    let squashfs = dir.join("root.img");
    std::io::copy(&mut archive, &mut File::create(&squashfs).expect("a new file")).expect("there is space");
    let tree = dir.join("tree");
    let mut unsquashfs = Command::new("unsquashfs");
    unsquashfs.args(["-no-progress", "-no-xattrs", "-d"]).args([&tree, &squashfs]).args(paths);
    let unpacked = unsquashfs.output().expect("unsquashfs runs");
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    tree
}
