//! What the disk, or somebody, changed in the cache.

use bootwright::entry::Sha256;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use testkit::http::{PageServer, Step};
use testkit::project::Project;

/// A tar of one file.
fn archive() -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("good").unwrap();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(5000);
    header.set_cksum();
    let mut tar = header.as_bytes().to_vec();
    tar.resize(512 + 5000, b'x');
    tar.resize(512 + 5120 + 1024, 0);
    tar
}

/// The largest files below a folder of the cache, which hold what matters.
fn bodies(dir: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(dir).into_iter().flatten().filter(|e| e.file_type().is_file());
    files.filter(|e| e.metadata().unwrap().len() > 4000).map(|e| e.into_path()).collect()
}

fn spoil(path: &Path, cut: bool) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    if cut {
        bytes.truncate(middle)
    } else {
        bytes[middle] ^= 1
    }
    // A file of its own: the image may hold this one as a further name.
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o444)).unwrap();
}

/// A build from what a cache still holds, after each part of it was damaged.
#[test]
fn what_is_damaged_in_the_cache_is_made_or_fetched_anew() {
    let (server, tar, project) = (PageServer::start(), archive(), Project::new());
    let url = server.page("/a.tar", &tar, &[Step::Serve]);
    let (sha256, size) = (Sha256::of(&tar), tar.len());
    project.add(&format!(
        "[[component]]\nname = \"archive\"\nurl = {{ url = \"{url}\", sha256 = \"{sha256}\", size = {size}, unpack = true }}\n"
    ));
    let expected = project.good_build();
    let remove = |path: &str| std::fs::remove_dir_all(project.path(path)).unwrap();
    for (part, unused) in [
        ("cache/derived/segments", &[][..]),
        ("cache/derived/unpacked", &["cache/derived/segments"]),
        ("cache/blobs", &["cache/derived/segments", "cache/derived/unpacked"]),
    ] {
        for cut in [false, true] {
            unused.iter().copied().chain(["out"]).for_each(remove);
            let found = bodies(&project.path(part));
            assert!(!found.is_empty(), "{part}");
            found.iter().for_each(|path| spoil(path, cut));
            let run = project.build(&[]);
            run.succeeds().says(&["in the cache", "damaged", "anew"]);
            project.image().is_like(&expected);
            remove("out");
            let run = project.build(&[]);
            assert!(!run.succeeds().err.contains("damaged"), "{part}: {}", run.err);
            project.image().is_like(&expected);
        }
    }
    assert_eq!(server.asked().len(), 3, "fetched at first, and for each damage of the body");
}
