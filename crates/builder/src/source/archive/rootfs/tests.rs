use super::*;
use crate::entry::{BodyAt, Sha256};
use std::path::Path;

/// Layers as text: `a/` is a folder, `a=x` a file with that body, `a->b` a symlink, `a==b` a hard link, `a%` a device node.
fn layer(text: &str) -> Vec<Member> {
    let member = |word: &str| {
        let (name, kind) = if let Some((name, target)) = word.split_once("->") {
            (name, MemberKind::Symlink(target.into()))
        } else if let Some((name, target)) = word.split_once("==") {
            (name, MemberKind::Hardlink(target.into()))
        } else if let Some((name, body)) = word.split_once('=') {
            let at = BodyAt::File { path: Path::new(body).into(), offset: 0 };
            (name, MemberKind::File(Body { sha256: Sha256::of(body.as_bytes()), size: body.len() as u64, at }))
        } else if let Some(name) = word.strip_suffix('%') {
            (name, MemberKind::Node(Kind::Fifo))
        } else {
            (word, MemberKind::Dir)
        };
        Member { name: name.into(), kind, mode: 0o755, uid: 0, gid: 0, xattrs: Xattrs::new(), mtime: 0 }
    };
    text.split_whitespace().map(member).collect()
}

/// The tree in the same words, then each flaw as `!path: problem`.
fn laid(manner: Manner, layers: &[&str]) -> String {
    let mut rootfs = Rootfs::new(manner);
    layers.iter().for_each(|text| rootfs.lay("layer", &layer(text)));
    let Contents { entries, flaws } = rootfs.finish();
    let shown = |entry: Entry| match entry.kind {
        Kind::Dir => format!("{}/", entry.path),
        Kind::Hardlink(target) => format!("{}=={target}", entry.path),
        Kind::Symlink(target) => format!("{}->{target}", entry.path),
        Kind::File(body) => format!("{}={}", entry.path, body.place().display()),
        other => panic!("{other:?}"),
    };
    let flaws = flaws.into_iter().map(|flaw| format!("!{}: {}", flaw.path, flaw.problem));
    entries.into_iter().map(shown).chain(flaws).collect::<Vec<_>>().join(" ")
}

type Case = (&'static [&'static str], &'static str);

#[track_caller]
fn check(manner: Manner, cases: &[Case]) {
    for (layers, expected) in cases {
        assert_eq!(laid(manner, layers), *expected, "{layers:?}");
    }
}

#[test]
fn whiteouts() {
    let cases: &[Case] = &[
        // A file, a folder with what is in it, and a name that just starts the same.
        (&["a/ a/x=1 a/y=1", "a/.wh.x="], "a/ a/y=1"),
        (&["a/ a/b/ a/b/x=1 ab=1", ".wh.a="], "ab=1"),
        (&["a/x=1", "a/.wh.x="], "a/"),
        // An opaque folder keeps what its own layer brings, wherever the mark stands.
        (&["a/ a/x=1 a/b/ a/b/y=1", "a/ a/new=2 a/.wh..wh..opq="], "a/ a/new=2"),
        (&["a/ a/x=1", "a/ a/.wh..wh..opq= a/x=2"], "a/ a/x=2"),
        (&["a=1 b/", ".wh..wh..opq= c=2"], "c=2"),
        (&["a/ a/b/ a/b/x=1 a/c/ a/c/x=1", "a/b/y=2 a/.wh..wh..opq="], "a/ a/b/ a/b/y=2"),
        // A whiteout and its file in one layer: the file is the newer one.
        (&["x=1", ".wh.x= x=2"], "x=2"),
        (&["x=1", "x=2 .wh.x="], "x=2"),
        (&["a/ a/x=1", "a/y=2 .wh.a="], "a/ a/y=2"),
        // A removed file may come back, and a whiteout of nothing that is there is fine.
        (&["x=1", ".wh.x= .wh.none= no/.wh.x= x/.wh.y=", "x=3"], "x=3"),
        // Marks of the file system that made the layer.
        (&["x=1", ".wh..wh.plnk/ .wh..wh.aufs="], "x=1"),
        // Through a link, and of a link itself.
        (&["usr/lib/x=1 lib->usr/lib", "lib/.wh.x="], "lib->usr/lib usr/lib/"),
        (&["usr/lib/x=1 lib->/usr/lib", "lib/.wh..wh..opq= lib/y=2"], "lib->/usr/lib usr/lib/y=2"),
        (&["usr/lib/x=1 lib->usr/lib", ".wh.lib="], "usr/lib/x=1"),
        // The folder that took the link's place is the layer's own.
        (&["usr/lib/x=1 lib->usr/lib", "lib/ lib/.wh.x="], "lib/ usr/lib/x=1"),
        (&["x=1", ".wh.="], "x=1 !.wh.: a whiteout of nothing"),
        (&["x=1", "a/.wh..."], "x=1 !a/.wh...: a whiteout of nothing"),
    ];
    check(Manner::Layers, cases);
    // In an archive that is no layer it is a name like others.
    check(Manner::Tar, &[(&[".wh.a=2 a=1"], ".wh.a=2 a=1")]);
}

#[test]
fn kinds_change() {
    let layers: &[Case] = &[
        (&["a/ a/x=1", "a=2"], "a=2"),
        (&["a/ a/x=1", "a->b"], "a->b"),
        (&["a/ a/x=1 a=2"], "a=2"),
        (&["a=1", "a/ a/x=2"], "a/ a/x=2"),
        (&["a/ a/x=1", "a/"], "a/ a/x=1"),
        (&["usr/lib/ lib->usr/lib", "lib/ lib/x=1"], "lib/ lib/x=1 usr/lib/"),
    ];
    check(Manner::Layers, layers);
    let tar: &[Case] = &[
        (&["a/ a/x=1 a=2"], "a/ a/x=1 !a: it replaces a folder that holds other entries"),
        (&["a/ a->b"], "a->b"),
        (&["a=1 a/ a/x=2"], "a/ a/x=2"),
    ];
    check(Manner::Tar, tar);
}

#[test]
fn parents_are_resolved_inside_the_root() {
    let both: &[Case] = &[
        (&["usr/bin/ bin->usr/bin", "bin/app=x"], "bin->usr/bin usr/bin/ usr/bin/app=x"),
        (&["bin->usr/bin bin/app=x"], "bin->usr/bin usr/bin/app=x"),
        (&["a->../../etc a/passwd=x"], "a->../../etc etc/passwd=x"),
        (&["a->/ a/x=1"], "a->/ x=1"),
        (&["a->b b->a a/x=1"], "a->b b->a !a/x: too many links lead to it"),
        (&["a=1 a/x=2"], "a=1 !a/x: it lies below `a`, which is no folder"),
        (&["/abs=1 ./dot=2"], "abs=1 dot=2"),
    ];
    check(Manner::Tar, both);
    check(Manner::Layers, both);
    check(Manner::Layers, &[(&["a/../x=1 ../../y=2"], "x=1 y=2")]);
    check(Manner::Tar, &[(&["a/../x=1"], "!a/../x: a path with `..`")]);
    let deep = "d/".repeat(2000);
    assert!(laid(Manner::Layers, &[&deep]).contains(": it lies more than 1024 folders deep"));
}

#[test]
fn hard_links() {
    let cases: &[Case] = &[
        (&["a=1 b==a c==a"], "a=1 b==a c==a"),
        (&["a=1", "b==a"], "a=1 b==a"),
        // The name that was linked to is gone or another file: the others keep the body.
        (&["a=1 b==a c==a", ".wh.a="], "b=1 c==b"),
        (&["a=1 b==a", "a=2"], "a=2 b=1"),
        (&["b=1 a==b"], "a=1 b==a"),
        // Of a symlink, and of a name behind one.
        (&["s->t h==s"], "h->t s->t"),
        (&["a/ a/x=1 b->a", "h==b/x"], "a/ a/x=1 b->a h==a/x"),
        (&["h==x x=1"], "x=1 !h: a hard link to `x`, which is no file of the archive"),
        (&["d/ h==d"], "d/ !h: a hard link to `d`, which is a folder"),
        (&["x=1", ".wh.x= y==x"], "!y: a hard link to `x`, which is no file of the archive"),
    ];
    check(Manner::Layers, cases);
}

#[test]
fn devices_are_left_out_until_something_takes_their_place() {
    let cases: &[Case] = &[
        (&["dev/ dev/null% n==dev/null"], "dev/ !dev/null: a device node or fifo !n: a device node or fifo"),
        (&["dev/null%", "dev/null=1"], "dev/null=1"),
        (&["dev/null%", ".wh.dev="], ""),
        (&["dev/null%"], "dev/ !dev/null: a device node or fifo"),
    ];
    check(Manner::Layers, cases);
}
