//! Archives that would write elsewhere, or too much.

use bootwright::entry::Sha256;
use tar::{EntryType, Header};
use testkit::http::{PageServer, Step};
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

pub fn project(server: &PageServer, tar: &[u8]) -> Project {
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
        ("hard", header("hard", EntryType::Link, 0, "../../../etc/shadow"), ".."),
        ("hard", header("hard", EntryType::Link, 0, "/etc/shadow"), "no file of the archive"),
        ("good/below", header("good/below", EntryType::Regular, 0, ""), "no folder"),
        ("odd", header("odd", EntryType::new(b'Z'), 0, ""), "an entry of type `Z`"),
        ("huge", sparse(), "bytes, over the limit"),
    ];
    for (name, bad, said) in cases {
        let server = PageServer::start();
        let project = project(&server, &archive(Some(bad)));
        let run = project.build(&[]);
        let name = format!("`{name}`");
        run.fails(3, &["component `archive` (recipes/tiny.toml:", "a.tar", &name, said, "leave it out by `exclude"]);
        assert!(!project.path("out").exists(), "{name}");
        assert!(!project.path("evil").exists() && !project.path("outside").exists());
        assert_eq!(names(&project.path("cache/tmp")), [""; 0], "{name}");
        // Nothing is wrong with an archive of which just the good file is wanted.
        project.edit("name = \"archive\"\n", "name = \"archive\"\npaths = [\"goo?\"]\n");
        project.good_build();
    }
}

#[test]
fn an_archive_that_is_cut_short_is_refused_whatever_is_wanted_of_it() {
    let server = PageServer::start();
    let project = project(&server, &archive(Some(header("huge", EntryType::Regular, 100 << 30, ""))));
    project.edit("name = \"archive\"\n", "name = \"archive\"\npaths = [\"good\"]\n");
    project.build(&[]).fails(3, &["component `archive`", "a.tar", "cannot be read", "nothing of it was used"]);
    assert!(!project.path("out").exists());
    assert_eq!(names(&project.path("cache/tmp")), [""; 0]);
}

#[test]
fn device_nodes_are_left_out_with_a_line() {
    for kind in [EntryType::Block, EntryType::Char, EntryType::Fifo] {
        let server = PageServer::start();
        let project = project(&server, &archive(Some(device(kind))));
        let said = "component `archive`: device nodes and fifos are left out: dev/evil\n";
        project.build(&[]).succeeds().says(&[said]);
        let files = project.run(&["inspect", "out/tiny", "--files", "--json"]).succeeds().out.clone();
        assert!(files.contains("\"good\"") && !files.contains("dev/evil"), "{files}");
        project.edit("name = \"archive\"\n", "name = \"archive\"\npaths = [\"dev/evil\"]\n");
        project.build(&[]).fails(3, &["component `archive`", "a device node or fifo at `dev/evil`"]);
    }
}

#[test]
fn a_terminal_is_given_no_escape_sequences_of_an_archive() {
    let server = PageServer::start();
    let name = "\u{1b}]0;title\u{7}\u{9b}31m";
    let mut tar = archive(Some(header(name, EntryType::Regular, 0, "")));
    let project = project(&server, &tar);
    project.good_build();
    let listed = project.run(&["inspect", "out/tiny", "--files"]).succeeds().out.clone();
    assert!(
        listed.contains(r"\u001b]0;title\u0007\u009b31m") && !listed.contains(['\u{1b}', '\u{7}', '\u{9b}']),
        "{listed}"
    );

    tar.splice(1024..1536, header(&format!("../{name}"), EntryType::Regular, 0, "").as_bytes().iter().copied());
    let project = self::project(&server, &tar);
    let run = project.build(&[]);
    run.fails(3, &[r"a path with `..` at `../\u001b]0;title\u0007\u009b31m`"]);
    assert!(!run.err.contains(['\u{1b}', '\u{7}', '\u{9b}']), "{}", run.err);
}

/// An absolute link starts at the image's root, and one that climbs ends there: they are kept as they are, and never
/// followed on this machine.
#[test]
fn links_stay_in_the_image() {
    for target in ["/etc/shadow", "../../../etc/shadow"] {
        let server = PageServer::start();
        let link = header("shadow", EntryType::Symlink, 0, target);
        let project = project(&server, &archive(Some(link)));
        project.good_build();
        let files = project.run(&["inspect", "out/tiny", "--files", "--json"]).succeeds().json();
        let file = |path: &str| files["files"].as_array().unwrap().iter().find(|f| f["path"] == path).cloned();
        assert_eq!(file("shadow").unwrap()["target"], target);
        assert_eq!(file("etc/shadow"), None);
    }
}

#[test]
fn a_good_archive_follows_a_bad_one() {
    let server = PageServer::start();
    let expected = project(&server, &archive(None)).good_build();
    let (bad, good) = (archive(Some(header("../evil", EntryType::Regular, 0, ""))), archive(None));
    let project = project(&server, &bad);
    project.build(&[]).fails(3, &["`../evil`"]);
    server.page("/a.tar", &good, &[Step::Serve]);
    project.edit(&Sha256::of(&bad).to_string(), &Sha256::of(&good).to_string());
    project.edit(&format!("size = {}", bad.len()), &format!("size = {}", good.len()));
    project.good_build().is_like(&expected);
}
