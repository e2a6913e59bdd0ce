use super::ar::tests::ar_of;
use super::package::read_deb;
use super::*;
use crate::cache::Cache;
use crate::cache::unpacked::Unpacker;
use crate::entry::Sha256;
use crate::fetch::{FetchError, Settings};
use crate::ui::{Ui, Verbosity};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

const CONTROL_TEXT: &str = "Package: demo\nVersion: 1:2-3\nArchitecture: all\nMaintainer: A <a@b>\nDescription: x\n";

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, body) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(body.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        // Written by hand: the builder would refuse `..`.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, *body).unwrap();
    }
    tar.into_inner().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn control_tar() -> Vec<u8> {
    tar_of(&[("./md5sums", b""), ("./control", CONTROL_TEXT.as_bytes())])
}

/// A package with these files.
fn deb_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    ar_of(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", &xz(&control_tar())),
        ("_extra", b"deb(5) allows it"),
        ("data.tar.xz", &xz(&tar_of(files))),
    ])
}

fn read(bytes: &[u8]) -> Result<control::Control, SourceError> {
    let dir = tempfile::tempdir().unwrap();
    let mut into = Unpacker::create(&dir.path().join("deb")).unwrap();
    read_deb(bytes, "demo", Limits::default(), 2, &mut into)
}

fn pin_of(deb: &[u8]) -> Pin {
    let detail =
        BTreeMap::from([(ARCHIVE.into(), "debian".into()), (FILENAME.into(), "pool/d/demo_2-3_all.deb".into())]);
    Pin { name: "demo".into(), version: "1:2-3".into(), size: deb.len() as u64, sha256: Sha256::of(deb), detail }
}

fn spec() -> DebSpec {
    DebSpec {
        suite: "trixie".into(),
        packages: vec!["demo".into()],
        without: vec![],
        areas: vec!["main".into()],
        security: true,
        depends: true,
    }
}

/// Runs `f` with a new cache.
fn with_cache<T>(settings: Settings, f: impl FnOnce(&Context<'_>) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
    let ui = Ui { verbosity: Verbosity::Quiet, ..Ui::default() };
    f(&Context { cache: &cache, ui: &ui, settings: &settings, recipe_dir: Path::new(".") })
}

const LICENSE: &[u8] =
    b"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: GPL-2+\n";

#[test]
fn a_package_becomes_a_pool() {
    let deb = deb_of(&[("./lib/x.so", b"library"), ("./usr/share/doc/demo/copyright", LICENSE)]);
    with_cache(Settings::default(), |cx| {
        cx.cache.put_blob(&deb).unwrap();
        for round in 0..2 {
            let pool = Deb { spec: &spec() }.open(&[pin_of(&deb)], cx).unwrap();
            let files: Vec<_> = pool.entries.iter().map(|e| e.path.as_str()).collect();
            assert_eq!(files, ["usr/lib/x.so", "usr/share/doc/demo/copyright"], "round {round}");
            let facts = &pool.packages[0];
            assert_eq!(facts.license.as_deref(), Some("GPL-2.0-or-later"));
            assert_eq!(facts.purl.as_deref(), Some("pkg:deb/debian/demo@1:2-3?arch=all&distro=trixie"));
        }
    });
}

#[test]
fn a_package_that_is_another_one_is_refused() {
    let deb = deb_of(&[("./a", b"a")]);
    with_cache(Settings::default(), |cx| {
        cx.cache.put_blob(&deb).unwrap();
        let pin = Pin { version: "9".into(), ..pin_of(&deb) };
        let error = Deb { spec: &spec() }.open(&[pin], cx).unwrap_err();
        assert_eq!(error.to_string(), "`demo 9`: it is `demo` 1:2-3 at `control`");
    });
}

#[test]
fn damaged_packages_are_named() {
    let (binary, control, data) = (&b"2.0\n"[..], xz(&control_tar()), xz(&tar_of(&[("./a", b"a")])));
    let members = |members: &[(&str, &[u8])]| ar_of(members);
    let short = &data[..data.len() - 9];
    let other_control = xz(&tar_of(&[("./control", b"Package: demo\n")]));
    let no_control = xz(&tar_of(&[("./md5sums", b"")]));
    let mut garbage_behind = tar_of(&[("./a", b"a")]);
    garbage_behind.resize(2 << 20, 1);
    for (bytes, wanted) in [
        (b"not a package".to_vec(), "it is no ar archive"),
        (ar_of(&[]), "the member is missing at `control.tar`"),
        (members(&[("control.tar.xz", &control)]), "no Debian package of format 2"),
        (members(&[("debian-binary", b"3.0\n"), ("control.tar.xz", &control)]), "no Debian package of format 2"),
        (members(&[("debian-binary", binary), ("data.tar.xz", &data)]), "an unexpected member at `data.tar.xz`"),
        (members(&[("debian-binary", binary), ("control.tar.xz", &control)]), "the member is missing at `data.tar`"),
        (
            members(&[("debian-binary", binary), ("control.tar.xz", &control), ("control.tar.xz", &control)]),
            "an unexpected member at `control.tar.xz`",
        ),
        (
            members(&[("debian-binary", binary), ("control.tar.xz", &control), ("data.tar.lzma", &data)]),
            "an unexpected member at `data.tar.lzma`",
        ),
        (
            members(&[("debian-binary", binary), ("control.tar.xz", &other_control), ("data.tar.xz", &data)]),
            "field `Version` is missing at `control`",
        ),
        (members(&[("debian-binary", binary), ("control.tar.xz", &no_control)]), "it holds no control file"),
        (members(&[("debian-binary", binary), ("control.tar.xz", b"\xfd7zXZ\0rubbish")]), "at `control.tar.xz`"),
        (members(&[("debian-binary", binary), ("control.tar.xz", &control), ("data.tar.xz", short)]), "`demo`"),
        (
            members(&[("debian-binary", binary), ("control.tar.xz", &control), ("data.tar", &garbage_behind)]),
            "more data after the end of the tar",
        ),
        (deb_of(&[("DEBIAN/control", b"x")]), "no package may install that at `DEBIAN/control`"),
    ] {
        let error = read(&bytes).expect_err(wanted);
        assert!(matches!(error, SourceError::BadArchive { .. }), "{error}");
        assert!(error.to_string().contains(wanted), "`{error}` does not say `{wanted}`");
    }
}

#[test]
fn a_package_may_be_cut_nowhere() {
    let deb = deb_of(&[("./usr/bin/a", &[7; 5000]), ("./b", b"b")]);
    assert!(read(&deb).is_ok());
    // The last byte may be the newline that pads a body of odd size.
    for end in (0..deb.len() - 1).step_by(7) {
        let error = read(&deb[..end]).expect_err("it was cut short");
        assert!(matches!(error, SourceError::BadArchive { .. }), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn damage_never_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), plain: bool) {
        let files: &[(&str, &[u8])] = &[("./usr/bin/tool", b"tool"), ("./etc/conf", b"conf")];
        let mut deb = match plain {
            true => ar_of(&[("debian-binary", b"2.0\n"), ("control.tar", &control_tar()), ("data.tar", &tar_of(files))]),
            false => deb_of(files),
        };
        for (at, byte) in changes {
            let at = at.index(deb.len());
            deb[at] = byte;
        }
        if let Err(error) = read(&deb) {
            prop_assert!(matches!(error, SourceError::BadArchive { .. }), "{error}");
        }
    }
}

#[test]
fn bad_names_never_reach_apt() {
    let with = |change: &dyn Fn(&mut DebSpec)| {
        let mut spec = spec();
        change(&mut spec);
        apt::check_spec(&spec)
    };
    assert!(with(&|s| s.packages = vec!["g++".into(), "crun=1:1.21-1~b+x".into(), "libc6.1".into()]).is_ok());
    for bad in ["--allow-unauthenticated", "crun-", "a b", "", "a/b", "a*", "crun=", "a=-1", "-o=x"] {
        assert!(with(&|s| s.packages = vec![bad.into()]).is_err(), "{bad}");
    }
    assert!(with(&|s| s.packages.clear()).is_err());
    assert!(with(&|s| s.suite = "trixie\nTrusted: yes".into()).is_err());
    assert!(with(&|s| s.areas = vec!["main contrib".into()]).is_err());
}

#[test]
fn nothing_is_asked_for_when_the_cache_has_it() {
    let deb = deb_of(&[("./a", b"a")]);
    // A mirror address that no fetch could use.
    let settings = Settings { mirrors: vec!["none".into()], ..Settings::default() };
    with_cache(settings, |cx| {
        let source = spec();
        let source = Deb { spec: &source };
        assert!(matches!(source.fetch(&[pin_of(&deb)], cx), Err(SourceError::BadInput { .. })));
        cx.cache.put_blob(&deb).unwrap();
        source.fetch(&[pin_of(&deb)], cx).unwrap();
    });
    with_cache(Settings { offline: true, ..Settings::default() }, |cx| {
        let error = Deb { spec: &spec() }.fetch(&[pin_of(&deb)], cx).unwrap_err();
        assert!(matches!(error, SourceError::Fetch(FetchError::Offline { .. })), "{error}");
    });
}

#[test]
fn pins_that_lead_elsewhere_are_refused() {
    let settings = Settings { mirrors: vec!["http://127.0.0.1:1/debian".into()], ..Settings::default() };
    with_cache(settings, |cx| {
        for (archive, filename) in [("ubuntu", "pool/a.deb"), ("debian", "pool/../../a.deb"), ("debian", "")] {
            let mut pin = pin_of(b"x");
            pin.detail = BTreeMap::from([(ARCHIVE.into(), archive.into()), (FILENAME.into(), filename.into())]);
            let error = Deb { spec: &spec() }.fetch(&[pin], cx).unwrap_err();
            assert!(matches!(error, SourceError::BadInput { .. }), "{error}");
        }
    });
}
