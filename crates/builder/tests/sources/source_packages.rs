//! What Debian packages were built from: lists that apt verifies, files that these lists name, versions that mirrors have dropped.

use crate::lab::Lab;
use bootwright::fetch::FetchError;
use bootwright::recipe::DebSpec;
use bootwright::source::deb::apt::Trust;
use bootwright::source::deb::mirror::Mirror;
use bootwright::source::deb::sources::{SourceFiles, fetch_sources_at};
use bootwright::source::{SourceError, SourcePackage};
use std::collections::{BTreeMap, BTreeSet};
use testkit::http::Step;

/// 2024-01-01T00:00:00Z, as the snapshot archive writes it.
const MOMENT: &str = "20240101T000000Z";
const TIME: u64 = 1_704_067_200;

impl Lab {
    /// Serves an archive of `tests/data/debian` at a path, with the source packages that it has, each a file that holds its name
    /// and version.
    fn source_archive(&self, archive: &str, at: &str, packages: &[(&str, &str, &str)]) -> String {
        for (folder, name, version) in packages {
            let path = format!("{at}/{folder}/{name}/{name}_{}.dsc", version.replace('+', "%2b"));
            self.server.page(&path, format!("{name} {version}").as_bytes(), &[Step::Serve]);
        }
        self.serve_archive(archive, at)
    }

    fn fetch_sources(
        &self,
        mirrors: &[Mirror],
        spec: &DebSpec,
        wanted: &[(&str, &str)],
    ) -> Result<SourceFiles, SourceError> {
        let package =
            |(name, version): &(&str, &str)| SourcePackage { name: (*name).into(), version: (*version).into() };
        let wanted: BTreeSet<SourcePackage> = wanted.iter().map(package).collect();
        let trust = Trust { keyring: crate::deb::data().join("keyring.gpg"), options: BTreeMap::new() };
        fetch_sources_at(mirrors, &trust, &wanted, spec, TIME, &self.context())
    }

    /// What the cache holds of each file, by name.
    fn bodies(&self, found: &SourceFiles) -> Vec<(String, String)> {
        let body = |sha256| std::fs::read_to_string(self.cache.blob(sha256).expect("it was fetched")).expect("text");
        found.values().flatten().map(|file| (file.name.clone(), body(&file.sha256))).collect()
    }
}

fn without_security() -> DebSpec {
    DebSpec { security: false, ..crate::deb::spec(&["app"]) }
}

fn texts(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
}

#[test]
fn files_of_exactly_the_wanted_versions_are_fetched() {
    let lab = Lab::new();
    let main = lab.source_archive("good", "/debian", &[("pool/main", "helper", "1"), ("pool/main", "libapp", "1.0")]);
    let security = [("pool/updates/main", "libapp", "1.0+deb13u1")];
    let security = lab.source_archive("good-security", "/debian-security", &security);
    let mirrors = [Mirror { main, security }];
    let wanted = [("helper", "1"), ("libapp", "1.0+deb13u1")];
    let found = lab.fetch_sources(&mirrors, &crate::deb::spec(&["app"]), &wanted).unwrap();
    let expected = [("helper_1.dsc", "helper 1"), ("libapp_1.0+deb13u1.dsc", "libapp 1.0+deb13u1")];
    assert_eq!(lab.bodies(&found), texts(&expected));
    assert!(lab.server.asked().iter().all(|asked| !asked.path.ends_with("libapp_1.0.dsc")));
}

#[test]
fn what_mirrors_have_dropped_comes_from_the_snapshot_archive_of_the_locks_time() {
    let mut lab = Lab::new();
    let main = lab.source_archive("good", "/debian", &[("pool/main", "helper", "1")]);
    let mirrors = [Mirror { security: main.clone(), main }];
    let wanted = [("dropped", "0.9"), ("helper", "1")];
    let error = lab.fetch_sources(&mirrors, &without_security(), &wanted).unwrap_err();
    assert!(matches!(&error, SourceError::NoSources { packages, .. } if packages == "dropped 0.9"), "{error}");

    // Its lists have expired long ago; their signature counts.
    let dated = lab.source_archive("expired", &format!("/archive/debian/{MOMENT}"), &[("pool/main", "dropped", "0.9")]);
    lab.settings.snapshot = dated.strip_suffix(&format!("/archive/debian/{MOMENT}")).map(String::from);
    let found = lab.fetch_sources(&mirrors, &without_security(), &wanted).unwrap();
    assert_eq!(lab.bodies(&found), texts(&[("dropped_0.9.dsc", "dropped 0.9"), ("helper_1.dsc", "helper 1")]));
}

#[test]
fn lists_of_strangers_and_other_bytes_are_refused() {
    let lab = Lab::new();
    let main = lab.source_archive("stranger", "/stranger", &[("pool/main", "helper", "1")]);
    let stranger = Mirror { security: main.clone(), main };
    let error =
        lab.fetch_sources(std::slice::from_ref(&stranger), &without_security(), &[("helper", "1")]).unwrap_err();
    assert!(error.to_string().contains("NO_PUBKEY"), "{error}");

    let main = lab.serve_archive("good", "/damaged");
    lab.server.page("/damaged/pool/main/helper/helper_1.dsc", b"helper 2", &[Step::Serve]);
    let damaged = Mirror { security: main.clone(), main };
    let error = lab.fetch_sources(&[damaged], &without_security(), &[("helper", "1")]).unwrap_err();
    assert!(matches!(error, SourceError::Fetch(FetchError::WrongHash { .. } | FetchError::Failed { .. })), "{error}");

    // The next mirror has it.
    let main = lab.source_archive("good", "/good", &[("pool/main", "helper", "1")]);
    let good = Mirror { security: main.clone(), main };
    let found = lab.fetch_sources(&[stranger, good], &without_security(), &[("helper", "1")]).unwrap();
    assert_eq!(lab.bodies(&found), texts(&[("helper_1.dsc", "helper 1")]));
}
