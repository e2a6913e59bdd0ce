//! Archives that would write elsewhere, or too much.

use bootwright::entry::Sha256;
use tar::{EntryType, Header};
use testkit::http::{Server, Step};
use testkit::project::{Project, names};

/// A header as tar(5) has it, with a name that the `tar` crate itself would refuse to write.
fn header(name: &str, kind: EntryType, size: u64, target: &str) -> Header {
    let mut header = Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_cksum();
    header
}

/// A tar of one good file and then this entry.
fn archive(bad: Option<Header>) -> Vec<u8> {
    let mut tar = header("good", EntryType::Regular, 4, "").as_bytes().to_vec();
    tar.extend(b"good");
    tar.resize(1024, 0);
    if let Some(bad) = bad {
        tar.extend(bad.as_bytes());
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// A file of 100 GB that takes two blocks of the archive: GNU's old sparse format.
fn sparse() -> Header {
    let mut header = header("huge", EntryType::GNUSparse, 0, "");
    let gnu = header.as_gnu_mut().unwrap();
    gnu.realsize.copy_from_slice(b"01351035564000\0"[3..].try_into().unwrap());
    gnu.sparse[0].offset.copy_from_slice(b"01351035564000\0"[3..].try_into().unwrap());
    gnu.sparse[0].numbytes.copy_from_slice(b"00000000000\0");
    header.set_cksum();
    header
}

fn device(kind: EntryType) -> Header {
    let mut header = header("dev/evil", kind, 0, "");
    header.set_device_major(8).unwrap();
    header.set_device_minor(0).unwrap();
    header.set_cksum();
    header
}

pub fn project(server: &Server, tar: &[u8]) -> Project {
    let (project, url) = (Project::new(), server.page("/a.tar", tar, &[Step::Serve]));
    let sha256 = Sha256::of(tar);
    project.add(&format!(
        "[[component]]\nname = \"archive\"\nurl = {{ url = \"{url}\", sha256 = \"{sha256}\", size = {}, unpack = true }}\n",
        tar.len()
    ));
    project
}

#[test]
fn what_leaves_the_tree_or_fills_the_disk_is_refused_by_name() {
    let cases = [
        ("../../evil", header("../../evil", EntryType::Regular, 0, ""), ".."),
        ("ok/../../evil", header("ok/../../evil", EntryType::Directory, 0, ""), ".."),
        ("etc/link", header("etc/link", EntryType::Symlink, 0, "../../../outside"), "out of the tree"),
        ("hard", header("hard", EntryType::Link, 0, "../../../etc/shadow"), ".."),
        ("hard", header("hard", EntryType::Link, 0, "/etc/shadow"), "no file of the archive"),
        ("good/below", header("good/below", EntryType::Regular, 0, ""), "no folder"),
        ("dev/evil", device(EntryType::Block), "a device node"),
        ("dev/evil", device(EntryType::Char), "a device node"),
        ("dev/evil", device(EntryType::Fifo), "a device node or fifo"),
        ("huge", header("huge", EntryType::Regular, 100 << 30, ""), "107374182400 bytes, over the limit"),
        ("huge", sparse(), "bytes, over the limit"),
    ];
    for (name, bad, said) in cases {
        let server = Server::start();
        let project = project(&server, &archive(Some(bad)));
        let run = project.build(&[]);
        let name = format!("`{name}`");
        run.fails(3, &["component `archive` (recipes/tiny.toml:", "a.tar", &name, said, "nothing of it was used"]);
        assert!(!project.path("out").exists(), "{name}");
        assert!(!project.path("evil").exists() && !project.path("outside").exists());
        let unpacked = walkdir::WalkDir::new(project.path("cache/derived")).into_iter().flatten();
        let unpacked: Vec<_> = unpacked.filter(|e| e.path().to_string_lossy().contains("tar-")).collect();
        assert!(unpacked.is_empty(), "{name}: {unpacked:?}");
        assert_eq!(names(&project.path("cache/tmp")), [""; 0], "{name}");
    }
}

/// An absolute link starts at the image's root: it is kept as it is, and never followed on this machine.
#[test]
fn an_absolute_link_stays_in_the_image() {
    let server = Server::start();
    let link = header("shadow", EntryType::Symlink, 0, "/etc/shadow");
    let project = project(&server, &archive(Some(link)));
    project.good_build();
    let files = project.run(&["inspect", "out/tiny", "--files", "--json"]).succeeds().json();
    let file = |path: &str| files["files"].as_array().unwrap().iter().find(|f| f["path"] == path).cloned();
    assert_eq!(file("shadow").unwrap()["target"], "/etc/shadow");
    assert_eq!(file("etc/shadow"), None);
}

#[test]
fn a_good_archive_follows_a_bad_one() {
    let server = Server::start();
    let expected = project(&server, &archive(None)).good_build();
    let (bad, good) = (archive(Some(header("../evil", EntryType::Regular, 0, ""))), archive(None));
    let project = project(&server, &bad);
    project.build(&[]).fails(3, &["`../evil`"]);
    server.page("/a.tar", &good, &[Step::Serve]);
    project.edit(&Sha256::of(&bad).to_string(), &Sha256::of(&good).to_string());
    project.edit(&format!("size = {}", bad.len()), &format!("size = {}", good.len()));
    project.good_build().is_like(&expected);
}
