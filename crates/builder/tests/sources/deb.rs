//! Debian packages: lists that apt verifies, mirrors in turn, packages that are gone. All on loopback.

use crate::lab::Lab;
use bootwright::entry::Sha256;
use bootwright::fetch::{FetchError, Settings};
use bootwright::recipe::DebSpec;
use bootwright::source::deb::apt::Trust;
use bootwright::source::deb::mirror::Mirror;
use bootwright::source::deb::{Deb, resolve_at};
use bootwright::source::{Pin, Source, SourceError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use testkit::http::Step;

impl Lab {
    /// Serves a folder of `tests/data/debian` and the security archive beside it.
    fn mirror(&self, name: &str) -> Mirror {
        let serve = |folder: &str| self.serve_archive(folder, &format!("/{folder}"));
        Mirror { main: serve(name), security: serve("good-security") }
    }

    /// Serves a folder of `tests/data/debian` at a path; its address.
    pub fn serve_archive(&self, folder: &str, at: &str) -> String {
        let root = data().join(folder);
        for file in walkdir::WalkDir::new(&root).into_iter().filter_map(Result::ok).filter(|f| f.file_type().is_file())
        {
            let path = format!("{at}/{}", file.path().strip_prefix(&root).unwrap().display());
            self.server.page(&path, &std::fs::read(file.path()).unwrap(), &[Step::Serve]);
        }
        self.server.page(at, b"", &[Step::Serve])
    }

    fn resolve(&self, spec: &DebSpec, mirrors: &[Mirror]) -> Result<Vec<Pin>, SourceError> {
        let trust = Trust { keyring: data().join("keyring.gpg"), options: BTreeMap::new() };
        resolve_at(mirrors, spec, &trust, &self.context())
    }

    /// `name version archive` of each pin.
    fn resolved(&self, spec: &DebSpec, mirrors: &[Mirror]) -> Vec<String> {
        let pins = self.resolve(spec, mirrors).unwrap();
        pins.iter().map(|p| format!("{} {} {}", p.name, p.version, p.detail["archive"])).collect()
    }
}

pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/debian")
}

pub fn spec(packages: &[&str]) -> DebSpec {
    DebSpec {
        suite: "trixie".into(),
        packages: packages.iter().map(|p| p.to_string()).collect(),
        without: vec![],
        areas: vec!["main".into()],
        security: true,
        depends: true,
    }
}

#[test]
fn the_newest_of_suite_and_security_is_pinned() {
    let lab = Lab::new();
    let mirrors = [lab.mirror("good")];
    assert_eq!(
        lab.resolved(&spec(&["app"]), &mirrors),
        ["app 1 debian", "helper 1 debian", "helper-data 1 debian", "libapp 1.0+deb13u1 debian-security"]
    );
    let plain = DebSpec { security: false, ..spec(&["libapp"]) };
    assert_eq!(lab.resolved(&plain, &mirrors), ["libapp 1.0 debian"]);
    let alone = DebSpec { depends: false, ..spec(&["app", "libapp"]) };
    assert_eq!(lab.resolved(&alone, &mirrors), ["app 1 debian", "libapp 1.0+deb13u1 debian-security"]);
    let without = DebSpec { without: vec!["help*r".into()], ..spec(&["app"]) };
    assert_eq!(lab.resolved(&without, &mirrors), ["app 1 debian", "libapp 1.0+deb13u1 debian-security"]);
    assert_eq!(lab.resolved(&spec(&["libapp=1.0"]), &mirrors), ["libapp 1.0 debian"]);

    let pin = &lab.resolve(&spec(&["libapp"]), &mirrors).unwrap()[0];
    assert_eq!((pin.size, pin.sha256), (5, Sha256::of(b"libapp1.0+deb13u1")));
    assert_eq!(pin.detail["filename"], "pool/main/libapp_1.0+deb13u1_all.deb");
}

#[test]
fn lists_are_fetched_once_a_run_and_shared() {
    let lab = Lab::new();
    let mirrors = [lab.mirror("good")];
    lab.resolved(&spec(&["app"]), &mirrors);
    let asked = lab.server.asked().len();
    assert!(asked > 0);
    lab.resolved(&spec(&["helper"]), &mirrors);
    assert_eq!(lab.server.asked().len(), asked, "the lists were asked for again");

    let offline = Settings { offline: true, ..Settings::default() };
    let later = Lab { settings: offline, cache: lab.cache.clone(), ..Lab::new() };
    assert_eq!(later.resolved(&spec(&["helper-data"]), &mirrors), ["helper-data 1 debian"]);
    assert_eq!(lab.server.asked().len(), asked, "--offline went to the network");
    let error = later.resolve(&spec(&["app"]), &[lab.mirror("stranger")]).unwrap_err();
    assert!(matches!(error, SourceError::Fetch(FetchError::Offline { .. })), "{error}");
}

#[test]
fn lists_that_cannot_be_trusted_are_refused_in_the_words_of_apt() {
    for (archive, words) in
        [("expired", "Release file for"), ("stranger", "NO_PUBKEY"), ("none", "does not have a Release file")]
    {
        let lab = Lab::new();
        let error = lab.resolve(&spec(&["app"]), &[lab.mirror(archive)]).unwrap_err();
        assert!(matches!(&error, SourceError::Command { .. }), "{error}");
        assert!(error.to_string().contains(words), "{archive}: {error}");
    }
}

#[test]
fn a_bad_mirror_leads_to_the_next() {
    let lab = Lab::new();
    let mirrors = [lab.mirror("stranger"), lab.mirror("none"), lab.mirror("good")];
    assert_eq!(lab.resolved(&spec(&["helper-data"]), &mirrors), ["helper-data 1 debian"]);
}

#[test]
fn what_cannot_be_resolved_is_named() {
    let lab = Lab::new();
    let mirrors = [lab.mirror("good")];
    for name in ["nosuch", "virtual-meta", "lib.pp"] {
        let error = lab.resolve(&spec(&["app", name]), &mirrors).unwrap_err().to_string();
        assert_eq!(error, format!("`{name}`: no such package in trixie (main)"));
    }
    let error = lab.resolve(&spec(&["broken"]), &mirrors).unwrap_err().to_string();
    assert!(error.contains("broken : Depends: libapp (>= 9)"), "{error}");
    let without = DebSpec { without: vec!["app".into()], ..spec(&["app"]) };
    let error = lab.resolve(&without, &mirrors).unwrap_err().to_string();
    assert!(error.contains("left out by `without`"), "{error}");
}

fn pin(name: &str, body: &[u8]) -> Pin {
    let detail = [("archive", "debian"), ("filename", &format!("pool/{name}_1+2_all.deb"))];
    let detail = detail.map(|(k, v)| (k.to_string(), v.to_string())).into();
    Pin { name: name.into(), version: "1+2".into(), size: body.len() as u64, sha256: Sha256::of(body), detail }
}

#[test]
fn packages_come_from_the_first_mirror_that_has_them() {
    let mut lab = Lab::new();
    let (a, b) = (pin("a", b"body a"), pin("b", b"body b"));
    let one = lab.server.page("/one/pool/a_1%2b2_all.deb", b"body a", &[Step::Serve]);
    lab.server.page("/two/pool/a_1%2b2_all.deb", b"body a", &[Step::Serve]);
    lab.server.page("/two/pool/b_1%2b2_all.deb", b"body b", &[Step::Serve]);
    let base = one.split("/one/").next().unwrap().to_string();
    lab.settings.mirrors = vec![format!("{base}/one"), format!("{base}/two")];
    let spec = spec(&["a"]);
    Deb { spec: &spec }.fetch(&[a, b], &lab.context()).unwrap();
    let mut asked: Vec<_> = lab.server.asked().into_iter().filter(|a| a.sent > 0).map(|a| a.path).collect();
    asked.sort();
    assert_eq!(asked, ["/one/pool/a_1%2b2_all.deb", "/two/pool/b_1%2b2_all.deb"]);

    let error = Deb { spec: &spec }.fetch(&[pin("c", b"body c")], &lab.context()).unwrap_err();
    assert!(
        matches!(&error, SourceError::Fetch(FetchError::Gone { name, version, .. }) if name == "c" && version == "1+2"),
        "{error}"
    );
}
