//! Packages that mirrors have dropped come from a snapshot archive, which a server on loopback plays.

use crate::lab::Lab;
use bootwright::entry::Sha256;
use bootwright::fetch::FetchError;
use bootwright::recipe::DebSpec;
use bootwright::source::deb::Deb;
use bootwright::source::{Pin, Source, SourceError};
use testkit::http::Step;

/// A version whose epoch, `+` and `~` an address must not take for its own.
const VERSION: &str = "1:2+b~rc1";
const BODY: &[u8] = b"the package";
const LIST: &str = "/snap/mr/binary/lib%2b%2b/1%3a2%2bb%7erc1/binfiles?fileinfo=1";

fn pin() -> Pin {
    let detail = [("archive", "debian"), ("filename", "pool/main/l/lib++_2+b~rc1_amd64.deb")];
    let detail = detail.map(|(k, v)| (k.to_string(), v.to_string())).into();
    Pin { name: "lib++".into(), version: VERSION.into(), size: BODY.len() as u64, sha256: Sha256::of(BODY), detail }
}

fn spec() -> DebSpec {
    DebSpec {
        suite: "trixie".into(),
        packages: vec!["lib++".into()],
        without: vec![],
        areas: vec!["main".into()],
        security: false,
        depends: true,
    }
}

/// 40 times the same digit: what a SHA-1 looks like.
fn sha1(digit: char) -> String {
    digit.to_string().repeat(40)
}

/// The archive's list: hash, architecture and size of each file.
fn list(files: &[(&str, &str, usize)]) -> String {
    let infos = files.iter().map(|(hash, architecture, size)| {
        format!(r#""{hash}":[{{"archive_name":"debian","name":"lib++_2+b~rc1_{architecture}.deb","path":"/pool","size":{size}}}]"#)
    });
    let result =
        files.iter().map(|(hash, architecture, _)| format!(r#"{{"architecture":"{architecture}","hash":"{hash}"}}"#));
    let (infos, result): (Vec<_>, Vec<_>) = (infos.collect(), result.collect());
    format!(r#"{{"binary":"lib++","fileinfo":{{{}}},"result":[{}]}}"#, infos.join(","), result.join(","))
}

impl Lab {
    /// With a mirror that has nothing and a snapshot archive.
    fn with_snapshot() -> (Self, String) {
        let mut lab = Self::new();
        let base = lab.server.page("/", b"", &[Step::Serve]).trim_end_matches('/').to_string();
        lab.settings.mirrors = vec![format!("{base}/mirror")];
        lab.settings.snapshot = Some(format!("{base}/snap"));
        (lab, base)
    }

    fn fetch_pin(&self) -> Result<(), SourceError> {
        Deb { spec: &spec() }.fetch(&[pin()], &self.context())
    }

    fn asked_for(&self, path: &str) -> bool {
        self.server.asked().iter().any(|asked| asked.path == path)
    }
}

#[test]
fn what_mirrors_dropped_comes_from_the_snapshot_archive() {
    let (lab, _) = Lab::with_snapshot();
    let (ours, other, old) = (sha1('a'), sha1('b'), sha1('c'));
    let files = list(&[(&other, "arm64", BODY.len()), (&old, "amd64", 5), (&ours, "amd64", BODY.len())]);
    lab.server.page(LIST, files.as_bytes(), &[Step::Serve]);
    lab.server.page(&format!("/snap/file/{ours}"), BODY, &[Step::Serve]);
    lab.fetch_pin().unwrap();
    assert!(lab.cache.blob(&Sha256::of(BODY)).is_some());
    let asked: Vec<String> = lab.server.asked().into_iter().map(|asked| asked.path).collect();
    let mirror = "/mirror/pool/main/l/lib%2b%2b_2%2bb%7erc1_amd64.deb";
    assert_eq!(asked, [mirror, LIST, &format!("/snap/file/{ours}")], "the mirror comes first");
}

#[test]
fn a_mirror_that_has_it_is_enough() {
    let (lab, _) = Lab::with_snapshot();
    lab.server.page("/mirror/pool/main/l/lib%2b%2b_2%2bb%7erc1_amd64.deb", BODY, &[Step::Serve]);
    lab.fetch_pin().unwrap();
    assert!(!lab.asked_for(LIST));
}

#[test]
fn of_several_bodies_the_one_of_the_lock_is_taken() {
    let (lab, _) = Lab::with_snapshot();
    let (first, second) = (sha1('1'), sha1('2'));
    let files = list(&[(&first, "amd64", BODY.len()), (&second, "amd64", BODY.len())]);
    lab.server.page(LIST, files.as_bytes(), &[Step::Serve]);
    lab.server.page(&format!("/snap/file/{first}"), b"another one", &[Step::Serve]);
    lab.server.page(&format!("/snap/file/{second}"), BODY, &[Step::Serve]);
    lab.fetch_pin().unwrap();
    assert!(lab.cache.blob(&Sha256::of(BODY)).is_some());
}

#[test]
fn a_wrong_body_is_never_taken_and_both_places_are_named() {
    let (lab, base) = Lab::with_snapshot();
    let hash = sha1('a');
    lab.server.page(LIST, list(&[(&hash, "amd64", BODY.len())]).as_bytes(), &[Step::Serve]);
    lab.server.page(&format!("/snap/file/{hash}"), b"the packagE", &[Step::Serve]);
    let error = lab.fetch_pin().unwrap_err();
    let text = error.to_string();
    assert!(lab.cache.blob(&Sha256::of(BODY)).is_none() && lab.cache.blob(&Sha256::of(b"the packagE")).is_none());
    assert!(text.starts_with(&format!("`lib++` {VERSION} is gone from {base}/mirror/pool/")), "{text}");
    assert!(text.contains("; nor from the snapshot archive: `lib++` has the wrong hash: expected "), "{text}");
    assert!(error.is_outdated_pin(), "a build without --locked pins it anew");
}

#[test]
fn an_archive_that_has_it_neither_is_named_with_what_to_do() {
    let (lab, base) = Lab::with_snapshot();
    let no_such = "`lib++` is gone from ".to_string() + &base + "/snap/mr/binary/lib%2b%2b/1%3a2%2bb%7erc1/binfiles";
    // Not there; another size or architecture only; no list at all.
    let answers = [
        (Step::Status(404), no_such.clone()),
        (
            Step::Other(list(&[(&sha1('a'), "arm64", BODY.len())]).into_bytes()),
            format!("`lib++` {VERSION} is gone from {base}/snap/mr/"),
        ),
        (
            Step::Other(list(&[("../../mirror", "amd64", BODY.len())]).into_bytes()),
            format!("`lib++` {VERSION} is gone from {base}/snap/mr/"),
        ),
        (Step::Other(b"<html>".to_vec()), "binfiles: unexpected answer: ".into()),
    ];
    for (step, told) in answers {
        lab.server.page(LIST, b"", &[step]);
        let error = lab.fetch_pin().unwrap_err();
        let text = error.to_string();
        let gone = matches!(&error, SourceError::Fetch(FetchError::Gone { .. }));
        assert!(
            gone && text.contains(&format!("{base}/mirror/pool/")) && text.contains(&told),
            "no {told:?} in {text}"
        );
        assert!(error.help().contains("--mirror, or a snapshot archive with --snapshot"), "{}", error.help());
    }
}

#[test]
fn a_mirror_that_is_merely_down_leads_there_too() {
    let (mut lab, base) = Lab::with_snapshot();
    // A port that nobody listens on.
    lab.settings.mirrors = vec![format!("http://127.0.0.1:{}/debian", testkit::vm::free_port())];
    let hash = sha1('a');
    lab.server.page(LIST, list(&[(&hash, "amd64", BODY.len())]).as_bytes(), &[Step::Serve]);
    lab.server.page(&format!("/snap/file/{hash}"), BODY, &[Step::Serve]);
    lab.fetch_pin().unwrap();
    assert!(lab.cache.blob(&Sha256::of(BODY)).is_some(), "{base}");
}
