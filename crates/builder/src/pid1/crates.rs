//! What PID1 is compiled from, as `build/crates.rs` lists it: `NAME<tab>VERSION<tab>LICENCE<tab>SHA256` a line.

use crate::entry::Sha256;
use crate::licence::canonical;
use crate::source::PackageFacts;

pub fn parse(lines: &str) -> Vec<PackageFacts> {
    lines.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<PackageFacts> {
    let [name, version, licence, sha256] = line.split('\t').collect::<Vec<_>>()[..] else { return None };
    let sha256 = Sha256::parse(sha256);
    Some(PackageFacts {
        name: name.into(),
        version: version.into(),
        license: canonical(licence),
        // The others are part of this repository and of the toolchain.
        purl: sha256.map(|_| format!("pkg:cargo/{name}@{version}")),
        sha256,
        ..PackageFacts::default()
    })
}

#[cfg(test)]
mod tests {
    use crate::pid1::load_pid1;

    #[test]
    fn every_crate_of_the_embedded_pid1_has_a_licence() {
        for network_roots in [true, false] {
            let crates = load_pid1(None, network_roots).expect("tests are built with PID1").crates;
            let find = |name: &str| crates.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("no {name}"));
            let nix = find("nix");
            assert_eq!(nix.license.as_deref(), Some("MIT"));
            assert_eq!(nix.purl, Some(format!("pkg:cargo/nix@{}", nix.version)));
            assert!(nix.sha256.is_some());
            assert_eq!(find("std").license.as_deref(), Some("MIT OR Apache-2.0"));
            assert!(find("std").version.starts_with("1."), "{:?}", find("std"));
            assert_eq!(find("bootwright-init").license.as_deref(), Some("Apache-2.0"));
            let unlicensed: Vec<_> = crates.iter().filter(|c| c.license.is_none()).map(|c| &c.name).collect();
            assert!(unlicensed.is_empty(), "{unlicensed:?}");
        }
    }

    #[test]
    fn nothing_is_said_of_a_pid1_from_elsewhere() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("init");
        let embedded = load_pid1(None, false).expect("tests are built with PID1").body;
        std::fs::write(&path, embedded.read_start(embedded.size).expect("it is in memory")).expect("it can be written");
        assert!(load_pid1(Some(&path), false).expect("it is a static program").crates.is_empty());
    }
}
