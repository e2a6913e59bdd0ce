//! Archives of GNU cpio, as `inspect` lists them. What the kernel itself takes is asked in the VM test `initrd`.

use bootwright::emit::manifest::FileKind;
use bootwright::inspect::initrd::read_initrd;
use bootwright::inspect::newc::InitrdLimits;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use testkit::need::have;

/// Packs the names of a folder, in this order.
fn pack(folder: &Path, format: &str, names: &[&str]) -> Vec<u8> {
    use std::io::Write;
    let mut child = Command::new("cpio")
        .args(["-o", "--quiet", "-H", format])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let list: String = names.iter().map(|name| format!("{name}\n")).collect();
    child.stdin.take().expect("it has a standard input").write_all(list.as_bytes()).expect("it reads its list");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    output.stdout
}

#[test]
fn archives_of_gnu_cpio_are_listed_with_sums_and_links() {
    if !have(&["cpio"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("sub")).expect("a folder");
    std::fs::write(at("sub/a"), [0xff; 70_000]).expect("a file");
    std::fs::hard_link(at("sub/a"), at("sub/b")).expect("a second name");
    std::fs::hard_link(at("sub/a"), at("sub/c")).expect("a third name");
    std::fs::write(at("single"), "hello").expect("a file");
    std::os::unix::fs::symlink("single", at("link")).expect("a link");
    let names = ["sub", "sub/b", "single", "sub/c", "link", "sub/a"];
    let expected = BTreeMap::from([
        ("sub", (FileKind::Dir, 0, None)),
        // Names of one file are held back until the last comes, and then told from the latest to the first.
        ("sub/c", (FileKind::File, 70_000, None)),
        ("sub/b", (FileKind::Hardlink, 0, Some("sub/c"))),
        ("sub/a", (FileKind::Hardlink, 0, Some("sub/c"))),
        ("single", (FileKind::File, 5, None)),
        ("link", (FileKind::Symlink, 0, Some("single"))),
    ]);
    for format in ["newc", "crc"] {
        let archive = pack(dir.path(), format, &names);
        let segments = read_initrd(&archive[..], InitrdLimits::default()).expect("bytes in memory");
        assert_eq!((segments.len(), &segments[0].problem), (1, &None), "{format}");
        assert!(segments[0].notes.is_empty(), "{format}: {:?}", segments[0].notes);
        let listed = segments[0].entries.iter().map(|e| (e.path.as_str(), (e.kind, e.size, e.target.as_deref())));
        assert_eq!(listed.collect::<BTreeMap<_, _>>(), expected, "{format}");
    }
    // A sum of the format `crc` is compared.
    let mut archive = pack(dir.path(), "crc", &["single"]);
    let at = archive.windows(5).position(|bytes| bytes == b"hello").expect("it is not packed");
    archive[at] = b'j';
    let segments = read_initrd(&archive[..], InitrdLimits::default()).expect("bytes in memory");
    let problem = segments[0].problem.as_deref().unwrap_or_default();
    assert!(problem.starts_with("bad data checksum"), "{problem}");
    let tested =
        Command::new("cpio").args(["-i", "--only-verify-crc"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut tested = tested.expect("it starts");
    std::io::Write::write_all(&mut tested.stdin.take().expect("it has one"), &archive).expect("it reads");
    let said = tested.wait_with_output().expect("it ends").stderr;
    assert!(String::from_utf8_lossy(&said).contains("checksum error"), "{}", String::from_utf8_lossy(&said));
}
