//! What `explain --block` says, against what other people's readers can no longer read without the block.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use testkit::need::have;
use testkit::project::Project;
use testkit::trees::noise;

const BLOCK: usize = 4096;

/// Files of several blocks of the file system and a part of one, without compressible bytes and with nothing else; short ones,
/// which are packed together; two of the same content; one that is a hole in its middle.
fn project(root: &str, large: usize) -> Project {
    let project = Project::with_root(root);
    project.write("tool/noise", noise(large));
    project.write("tool/same", noise(large));
    project.write("tool/text", "a line that compresses\n".repeat(40_000));
    project.write("tool/sparse", [noise(5000), vec![0; 400_000], noise(7000)].concat());
    (0..40).for_each(|i| project.write(&format!("tool/short/{i}"), &noise(900 + 40)[i..][..900]));
    project.run(&["build", "--recipe", "tiny", "--root", "nbd"]).succeeds();
    project
}

fn explained(project: &Project, block: usize) -> Value {
    project.run(&["explain", "--recipe", "tiny", "--json", "--block", &block.to_string()]).succeeds().json()
}

/// The files that the squashfs still gives out, by path.
fn readable(image: &Path, to: &Path) -> BTreeMap<String, Vec<u8>> {
    // Its exit code tells of errors, and it goes on behind them.
    let run = Command::new("unsquashfs")
        .args(["-no-progress", "-no-xattrs", "-force", "-ignore-errors", "-dest"])
        .arg(to)
        .arg(image)
        .output();
    run.expect("it starts");
    let files = walkdir::WalkDir::new(to).into_iter().map(|e| e.expect("it was just written"));
    let files = files.filter(|e| e.file_type().is_file()).map(|e| e.into_path());
    let named = files.map(|path| {
        let name = path.strip_prefix(to).expect("below it").to_str().expect("UTF-8").to_string();
        (name, fs::read(path).expect("it was just written"))
    });
    named.collect()
}

#[test]
fn files_that_a_squashfs_cannot_give_out_are_named() {
    if !have(&["mksquashfs", "unsquashfs"]) {
        return;
    }
    // With one block in the middle of a file, and with several in a block.
    for keys in
        ["image = \"squashfs\"\ncompressor = \"gzip\"", "image = \"squashfs\"\ncompressor = \"xz\"\nblock_kib = 16"]
    {
        let project = project(keys, 150_001);
        let good = fs::read(project.path("out/tiny-nbd/root.img")).expect("it was built");
        let field = |at: usize| u64::from_le_bytes(good[at..at + 8].try_into().expect("eight bytes")) as usize;
        let (used, inodes) = (field(40), field(64));
        let whole = readable(&project.path("out/tiny-nbd/root.img"), &project.path("whole"));
        assert!(whole.len() > 40 && inodes > 37 * BLOCK, "{keys}: {} files, {inodes}", whole.len());
        let (mut shared, mut compared) = (0, 0);
        for block in 1..inodes / BLOCK {
            let mut bad = good.clone();
            bad[block * BLOCK..(block + 1) * BLOCK].iter_mut().for_each(|byte| *byte ^= 0xff);
            let (image, folder) = (project.path("bad.img"), project.path("bad"));
            fs::write(&image, bad).expect("the folder is the test's own");
            let read = readable(&image, &folder);
            fs::remove_dir_all(&folder).expect("it was just made");
            let differ: Vec<&str> = whole
                .iter()
                .filter(|(name, bytes)| read.get(*name) != Some(bytes))
                .map(|(name, _)| name.as_str())
                .collect();
            let said = explained(&project, block);
            let contents = said["contents"].as_array().expect("a list").clone();
            let mut named: Vec<&str> =
                contents.iter().map(|content| content["path"].as_str().expect("a path")).collect();
            named.dedup();
            assert_eq!(named, differ, "{keys}: block {block}: {said:#}");
            assert_eq!(said["tables"], serde_json::json!([]), "{keys}: block {block}");
            shared += usize::from(named.iter().filter(|name| name.contains("/short/")).count() > 10);
            // Where a block cannot be unpacked the reader leaves out its file; else what differs lies in the bytes that are told.
            for (name, now) in named.iter().filter_map(|name| Some((*name, read.get(*name)?))) {
                let before = &whole[name];
                assert_eq!(before.len(), now.len(), "{keys}: block {block}: {name}");
                let of_file = |content: &&Value| content["path"] == *name;
                let field = |content: &Value, key: &str| content[key].as_u64().expect("a number") as usize;
                let lost: Vec<_> = contents.iter().filter(of_file).map(|c| field(c, "from")..field(c, "to")).collect();
                let wrong = (0..before.len()).filter(|at| before[*at] != now[*at]);
                let untold: Vec<usize> = wrong.filter(|at| !lost.iter().any(|lost| lost.contains(at))).collect();
                assert!(untold.is_empty(), "{keys}: block {block}: {name} {untold:?} {said:#}");
                compared += 1;
            }
        }
        assert!(
            shared > 0 && compared > 30,
            "{keys}: {shared} blocks hold the ends of several files, {compared} compared"
        );
        for (block, table) in
            [(0, "superblock"), (inodes / BLOCK, "inodes"), ((used - 1) / BLOCK, "folders, and tables")]
        {
            let said = explained(&project, block)["tables"].to_string();
            assert!(said.contains(table), "{keys}: block {block}: {said}");
        }
    }
}

#[test]
fn what_no_block_of_data_is_has_a_name_too() {
    if !have(&["mksquashfs"]) {
        return;
    }
    let project = project("image = \"squashfs\"\ncompressor = \"gzip\"", 600_001);
    let image = fs::read(project.path("out/tiny-nbd/root.img")).expect("it was built");
    let used = u64::from_le_bytes(image[40..48].try_into().expect("eight bytes")) as usize;
    let (data, all) = (used.div_ceil(BLOCK), image.len() / BLOCK);
    // As 128 hashes make a block, there are two leaves and a top.
    assert!((129..=256).contains(&data) && all == data + 3, "{data} {all}");
    let hashes = |block| explained(&project, block)["hashes"].clone();
    let expected = |level: u32, first: usize, last: usize| serde_json::json!({ "level": level, "first_block": first, "last_block": last });
    assert_eq!(hashes(data - 1), Value::Null);
    assert_eq!(hashes(data), expected(1, 0, data - 1), "the top comes first");
    assert_eq!(hashes(data + 1), expected(0, 0, 127));
    assert_eq!(hashes(data + 2), expected(0, 128, data - 1));
    let explain = |more: &[&str]| project.run(&[&["explain", "--recipe", "tiny"], more].concat());
    explain(&["--block", &(data + 2).to_string()])
        .succeeds()
        .says(&["hash tree, level 0: without it blocks 128 to", "  /opt/tool/"]);
    explain(&["--block", &all.to_string()]).fails(2, &["`root.img`, whose blocks are 0 to", "--root"]);
    explain(&["--block", "18446744073709551615"]).fails(2, &["block 18446744073709551615 is not in"]);
    explain(&["--block", "0", "images.img"]).fails(2, &["`images.img` of `tiny` is no file whose blocks are proven"]);
    explain(&["--block", "0", "vmlinuz"]).fails(2, &["`vmlinuz` of `tiny` is no file whose blocks are proven"]);
    assert_eq!(explain(&["--block", "-1"]).code, Some(2));
    assert_eq!(explain(&[]).code, Some(2));
    // Who changed the file would be told of other files' blocks.
    fs::write(project.path("out/tiny-nbd/root.img"), &image[..image.len() - 1]).expect("it is the test's own");
    explain(&["--block", "3"]).fails(1, &["root.img` is not the file that was built"]);
    project.build(&[]).succeeds();
    project.run(&["explain", "--recipe", "tiny", "--root", "ram", "--block", "3"]).fails(2, &["--root nbd"]);
}

#[test]
fn files_of_an_erofs_are_named() {
    if !have(&["mkfs.erofs", "dump.erofs"]) {
        return;
    }
    let project = project("image = \"erofs\"\ncompressor = \"lz4hc\"", 300_001);
    let image = fs::read(project.path("out/tiny-nbd/root.img")).expect("it was built");
    // What does not compress lies there as it is, in whole blocks.
    let file = noise(300_001);
    let mut found = 0;
    for (i, chunk) in file.chunks_exact(BLOCK).enumerate() {
        for block in image.chunks_exact(BLOCK).enumerate().filter(|(_, bytes)| *bytes == chunk).map(|(block, _)| block)
        {
            let said = explained(&project, block);
            let content = &said["contents"][0];
            assert!(
                ["opt/tool/noise", "opt/tool/same"].contains(&content["path"].as_str().expect("a path")),
                "{said:#}"
            );
            let field = |key: &str| content[key].as_u64().expect("a number") as usize;
            assert!(field("from") <= i * BLOCK && field("to") >= (i + 1) * BLOCK, "{i}: {said:#}");
            assert!(content["origin"].as_str().is_some_and(|origin| origin.contains("tiny.toml:")), "{said:#}");
            found += 1;
        }
    }
    assert!(found >= 73, "{found}");
    let first = explained(&project, 0)["tables"].to_string();
    assert!(first.contains("superblock") && first.contains("inodes"), "{first}");
}
