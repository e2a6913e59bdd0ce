//! Tar archives: ours beside GNU tar's.

use crate::corpus::{Ours, Verdict, archive, compare, list_disk, member, ours};
use crate::run;
use bootwright::source::archive::rootfs::Manner;
use std::path::Path;
use std::process::Command;
use tar::EntryType;
use testkit::need::have;

const INSIDE: &str = "the link is followed inside the image, where GNU tar, on a machine, must not";
const MADE: &str = "what the link leads to is made, as in image layers";

const ROWS: &[(&str, Ours)] = &[
    ("usr/ usr/lib/ lib->usr/lib lib/x=1", Ours::Same),
    ("lib->usr/lib lib/x=1", Ours::Taken(MADE)),
    ("usr/ usr/lib/ lib->/usr/lib lib/x=1", Ours::Taken(INSIDE)),
    ("a->../../etc a/passwd=1", Ours::Taken(INSIDE)),
    ("a->.. a/x=1", Ours::Taken(INSIDE)),
    ("a->b b->a a/x=1", Ours::Same),
    ("usr/x->../../etc etc->/nowhere", Ours::Same),
    ("lib/x=1 lib->usr/lib", Ours::Same),
    ("lib/ lib->usr/lib", Ours::Same),
    ("a/ a/x=1 a=2", Ours::Same),
    ("a=1 a/ a/x=2", Ours::Same),
    ("a=1 a/x=2", Ours::Same),
    ("s->t h==s", Ours::Same),
    ("x=1 y==x z==y", Ours::Same),
    ("x=1 y==x@600", Ours::Same),
    ("x=1 y==x x=2", Ours::Same),
    ("d/ h==d", Ours::Same),
    ("h==none", Ours::Same),
    ("h==x x=1", Ours::Same),
    ("x=1 x==x", Ours::Same),
    ("../x=1", Ours::Same),
    ("a/ a/../x=1", Ours::Same),
    ("/abs=1 ./dot=2 a//b=3", Ours::Same),
    ("/x=1 y==/x", Ours::Same),
    ("f=1 f=2", Ours::Same),
    ("d/@700 d/@755 d/x=1", Ours::Same),
    ("d/@500 d/x=1", Ours::Same),
    ("d/@1777 s=1@4755 g=1@2711", Ours::Same),
    ("old/folder/=", Ours::Same),
    ("a/ a/.wh.x=1 .wh.y/ .wh..wh..opq=", Ours::Same),
    ("./ ./x=1", Ours::Same),
    ("", Ours::Same),
];

const NODE_ROWS: &[&str] = &["dev/ dev/null%c dev/sda%b dev/f%p x=1", "dev/null%c n==dev/null x=1"];

fn theirs(bytes: &[u8]) -> Verdict {
    let dir = tempfile::tempdir().expect("a folder");
    let (path, root) = (dir.path().join("a.tar"), dir.path().join("root"));
    std::fs::create_dir(&root).expect("a folder");
    std::fs::write(&path, bytes).expect("it is written");
    // Without -p modes go through the umask, and set-user-id bits are lost.
    let output = Command::new("tar").arg("-xpf").arg(&path).arg("-C").arg(&root).arg("--numeric-owner").output();
    let output = output.expect("tar runs");
    match output.status.success() {
        true => Ok(list_disk(&root)),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[track_caller]
fn check(what: &str, bytes: Vec<u8>, expected: Ours) {
    let reference = theirs(&bytes);
    if let Err(problem) = compare(expected, &reference, &ours(Manner::Tar, &[bytes])) {
        panic!("{what}: {problem}");
    }
}

#[test]
fn archives_are_unpacked_as_gnu_tar_does() {
    if !have(&["tar"]) {
        return;
    }
    for (text, expected) in ROWS {
        check(text, archive(text), *expected);
    }
    if nix::unistd::geteuid().is_root() {
        for text in NODE_ROWS {
            check(text, archive(text), Ours::WithoutNodes);
        }
    }
}

/// Members that no program writes, or not today's.
#[test]
fn odd_members() {
    if !have(&["tar"]) {
        return;
    }
    let with = |kind: u8, name: &[u8], link: &str, body: &[u8]| {
        let mut tar = Vec::new();
        member(&mut tar, EntryType::new(kind), name, link, 0o644, body);
        member(&mut tar, EntryType::Regular, b"good", "", 0o644, b"good");
        tar.resize(tar.len() + 1024, 0);
        tar
    };
    check("a contiguous file", with(b'7', b"x", "", b"1"), Ours::Same);
    check("a file of before POSIX", with(0, b"x", "", b"1"), Ours::Same);
    check("a volume's label", with(b'V', b"label", "", b""), Ours::Same);
    check("a folder of an incremental archive", with(b'D', b"d/", "", b"Yx\0\0"), Ours::Same);
    check("an unknown type", with(b'Z', b"x", "", b"1"), Ours::Refused("GNU tar takes it for a file, with a warning"));
    check("no UTF-8", with(b'0', b"caf\xe9", "", b"1"), Ours::Refused("paths in sums and manifests are UTF-8"));
    check("a newline", with(b'0', b"a\nb", "", b"1"), Ours::Refused("sums hold one path a line"));
    let pax = |kind: u8, record: &str| {
        let text = format!("{} {record}\n", record.len() + 4);
        with(kind, b"pax", "", text.as_bytes())
    };
    check("a global comment", pax(b'g', "comment=abcdef"), Ours::Same);
    check("a global time", pax(b'g', "mtime=12345678"), Ours::Same);
    let disputed = Ours::Refused("GNU tar heeds it, containerd and umoci do not");
    check("a global name", pax(b'g', "path=elsewhere"), disputed);
    check("a pax name", pax(b'x', "path=elsewhere"), Ours::Same);
    check("a pax name with a slash in front", pax(b'x', "path=/elsewhere"), Ours::Same);
    check("a pax name that climbs", pax(b'x', "path=../elsewh"), Ours::Same);
}

/// Archives that GNU tar wrote itself, in each of its formats.
#[test]
fn what_gnu_tar_writes() {
    if !have(&["tar"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let tree = dir.path().join("tree");
    let deep = tree.join("d".repeat(120)).join("e".repeat(90));
    std::fs::create_dir_all(&deep).expect("a folder");
    std::fs::write(deep.join("f".repeat(99)), "deep").expect("it is written");
    std::fs::write(tree.join("l".repeat(200)), "long").expect("it is written");
    std::fs::hard_link(tree.join("l".repeat(200)), tree.join(format!("m{}", "l".repeat(150)))).expect("a link");
    std::os::unix::fs::symlink("t".repeat(180), tree.join("link")).expect("a link");
    std::fs::write(tree.join("umlaut-ä"), "").expect("it is written");
    let sparse = std::fs::File::create(tree.join("sparse")).expect("it is made");
    sparse.set_len(3 << 20).expect("it grows");
    for offset in (0..12).map(|i| (i * 200_000) as u64) {
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", offset).expect("it is written");
    }
    let incremental = format!("--listed-incremental={}", dir.path().join("snapshot").display());
    let formats: &[&[&str]] = &[
        &["--format=gnu"],
        &["--format=gnu", "-S"],
        &["--format=oldgnu", "-S"],
        &["--format=posix"],
        &["--format=posix", "-S", "--sparse-version=0.0"],
        &["--format=posix", "-S", "--sparse-version=0.1"],
        &["--format=posix", "-S", "--sparse-version=1.0"],
        &["--format=posix", "--pax-option=globexthdr.name=g,comment=hi"],
        &["--format=gnu", &incremental],
        &["--format=gnu", "--blocking-factor=1"],
    ];
    for format in formats {
        check(&format!("{format:?}"), pack(&tree, format), Ours::Same);
    }
    let unsized_label = Ours::Refused("the `tar` crate reads no header without a size, as this label's is");
    check("a label", pack(&tree, &["--format=gnu", "--label=volume"]), unsized_label);
    for (compress, args) in [("gzip", &["-c"][..]), ("xz", &["-c"]), ("zstd", &["-c"])] {
        if have(&[compress]) {
            let packed = run(compress, args, &pack(&tree, &["--format=posix"]));
            check(compress, packed, Ours::Same);
        }
    }
}

fn pack(tree: &Path, format: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").args(format).arg("-cf").arg("-").arg("-C").arg(tree).arg(".").output();
    let output = output.expect("tar runs");
    assert!(output.status.success(), "{format:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// An archive that is cut short is no archive, however much of it is wanted.
#[test]
fn damage_is_refused_by_both() {
    if !have(&["tar"]) {
        return;
    }
    let whole = archive("a=1 b=22222");
    let mut spoiled = whole.clone();
    spoiled[1024] ^= 1;
    let cut = Ours::Refused("half a header: GNU tar takes what stands in front of it");
    check("cut in a header", whole[..1100].to_vec(), cut);
    for (what, bytes) in [("cut in a body", &whole[..1540]), ("spoiled", &spoiled)] {
        check(what, bytes.to_vec(), Ours::Same);
        assert!(theirs(bytes).is_err(), "{what}");
    }
}
