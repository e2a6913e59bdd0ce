//! What apt's answers mean: pure functions over its output.

use super::mirror::Mirror;
use crate::entry::Sha256;
use crate::source::Pin;
use deb822_fast::Deb822;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::collections::{BTreeMap, BTreeSet};

/// [`Pin::detail`]: which archive of a mirror holds the package, [`MAIN`] or [`SECURITY`].
pub const ARCHIVE: &str = "archive";
/// [`Pin::detail`]: path below the archive, as in its `Packages` file.
pub const FILENAME: &str = "filename";
pub const MAIN: &str = "debian";
pub const SECURITY: &str = "debian-security";

/// apt said something that cannot be understood.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum AnswerProblem {
    #[error("`{line}` is no line of `--print-uris`")]
    Line { line: String },
    #[error("`{uri}` is on none of the mirrors that apt was told of")]
    ForeignPlace { uri: String },
    #[error("its package records are not deb822: {0}")]
    Records(String),
}

/// Reads what `apt-get --print-uris` prints for each package (apt-get(8)):
/// `'URI' NAME_VERSION_ARCH.deb SIZE SHA256:HEX`, the file name with `:` as `%3a`. Sorted by name.
pub fn parse_print_uris(text: &str, mirror: &Mirror) -> Result<Vec<Pin>, AnswerProblem> {
    let mut pins = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('\'')) {
        let (uri, pin) = parse_uri_line(line).ok_or_else(|| AnswerProblem::Line { line: line.into() })?;
        let (archive, filename) =
            place_of(uri, mirror).ok_or_else(|| AnswerProblem::ForeignPlace { uri: uri.into() })?;
        let detail = BTreeMap::from([(ARCHIVE.into(), archive.into()), (FILENAME.into(), filename)]);
        pins.push(Pin { detail, ..pin });
    }
    pins.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(pins)
}

/// The URI of a line, and the pin without its place.
fn parse_uri_line(line: &str) -> Option<(&str, Pin)> {
    let (uri, rest) = line.strip_prefix('\'')?.split_once("' ")?;
    let mut words = rest.split_ascii_whitespace();
    let file = percent_decode(words.next()?)?;
    let size = words.next()?.parse().ok()?;
    let sha256 = Sha256::parse(words.next()?.strip_prefix("SHA256:")?)?;
    let mut parts = file.strip_suffix(".deb")?.split('_');
    let (name, version) = (parts.next()?.to_string(), parts.next()?.to_string());
    Some((uri, Pin { name, version, size, sha256, detail: BTreeMap::new() }))
}

/// Archive and path of a URI: the longer of the mirror's addresses that it starts with counts.
fn place_of(uri: &str, mirror: &Mirror) -> Option<(&'static str, String)> {
    let (archive, path) = [(MAIN, &mirror.main), (SECURITY, &mirror.security)]
        .into_iter()
        .filter_map(|(archive, base)| Some((archive, uri.strip_prefix(base.as_str())?.strip_prefix('/')?)))
        .min_by_key(|(_, path)| path.len())?;
    Some((archive, percent_decode(path)?))
}

/// `%xx` to bytes (RFC 3986 section 2.1); `None` when it is cut short or not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let (digits, after) = tail.split_at_checked(2)?;
            out.push(*hex::decode(digits).ok()?.first()?);
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(out).ok()
}

/// Encodes a path as apt does, so that `+` and `~` mean themselves on every server.
pub fn percent_encode(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02x}"),
        })
        .collect()
}

/// Compiles the globs of `without`.
pub fn compile_globs(globs: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(GlobBuilder::new(glob).literal_separator(false).build()?);
    }
    set.build()
}

/// Keeps of `pins` what `wanted` needs without the packages that `without` matches: those are left out and not followed.
/// `records` are the packages' stanzas (`apt-cache show`). Every alternative of a dependency that was resolved is followed.
pub fn prune(pins: Vec<Pin>, wanted: &[&str], without: &GlobSet, records: &str) -> Result<Vec<Pin>, AnswerProblem> {
    let records: Deb822 = records.parse().map_err(|e: deb822_fast::Error| AnswerProblem::Records(e.to_string()))?;
    let mut needs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut providers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for record in records.iter() {
        let Some(name) = record.get("Package") else { continue };
        providers.entry(name).or_default().push(name);
        for provided in record.get("Provides").map(names_of).unwrap_or_default() {
            providers.entry(provided).or_default().push(name);
        }
        for field in ["Depends", "Pre-Depends"] {
            needs.entry(name).or_default().extend(record.get(field).map(names_of).unwrap_or_default());
        }
    }
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = wanted.to_vec();
    while let Some(name) = open.pop() {
        if without.is_match(name) || !reached.insert(name) {
            continue;
        }
        for needed in needs.get(name).into_iter().flatten() {
            open.extend(providers.get(needed).into_iter().flatten());
        }
    }
    Ok(pins.into_iter().filter(|pin| reached.contains(pin.name.as_str())).collect())
}

/// Package names of a relationship field (Debian Policy section 7.1): `a (>= 1) | b:any, c [amd64]` gives a, b and c.
fn names_of(field: &str) -> Vec<&str> {
    field
        .split([',', '|'])
        .map(|one| one.trim().split([' ', '(', '[', ':', '<']).next().unwrap_or_default())
        .filter(|name| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror() -> Mirror {
        Mirror { main: "http://h/debian".into(), security: "http://h/debian-security".into() }
    }

    const HEX: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    #[test]
    fn apt_lines_become_pins_without_a_host() {
        let text = format!(
            "Reading package lists...\n\
             'http://h/debian-security/pool/updates/main/z/zlib/zlib1g_1.3%2bdeb13u1_amd64.deb' zlib1g_1%3a1.3+deb13u1_amd64.deb 88720 SHA256:{HEX}\n\
             'http://h/debian/pool/main/c/crun/crun_1.21-1_amd64.deb' crun_1.21-1_amd64.deb 368640 SHA256:{HEX}\n"
        );
        let pins = parse_print_uris(&text, &mirror()).unwrap();
        let shown: Vec<_> = pins
            .iter()
            .map(|p| {
                (p.name.as_str(), p.version.as_str(), p.size, p.detail[ARCHIVE].as_str(), p.detail[FILENAME].as_str())
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("crun", "1.21-1", 368_640, MAIN, "pool/main/c/crun/crun_1.21-1_amd64.deb"),
                ("zlib1g", "1:1.3+deb13u1", 88_720, SECURITY, "pool/updates/main/z/zlib/zlib1g_1.3+deb13u1_amd64.deb"),
            ]
        );
        assert_eq!(
            percent_encode(&pins[1].detail[FILENAME]),
            "pool/updates/main/z/zlib/zlib1g_1.3%2bdeb13u1_amd64.deb"
        );
    }

    #[test]
    fn other_lines_are_refused() {
        let line = |rest: &str| parse_print_uris(&format!("'http://h/debian/pool/a.deb' {rest}\n"), &mirror());
        assert!(line(&format!("a_1_all.deb 5 SHA256:{HEX}")).is_ok());
        for bad in [
            format!("a_1_all.deb 5 MD5Sum:{HEX}"),
            format!("a_1_all.deb five SHA256:{HEX}"),
            format!("a.deb 5 SHA256:{HEX}"),
            format!("a_1%3_all.deb 5 SHA256:{HEX}x"),
            "a_1_all.deb 5 SHA256:00".into(),
            String::new(),
        ] {
            assert!(matches!(line(&bad), Err(AnswerProblem::Line { .. })), "{bad}");
        }
        let foreign = format!("'http://h/debianish/pool/a.deb' a_1_all.deb 5 SHA256:{HEX}\n");
        let uri = "http://h/debianish/pool/a.deb".into();
        assert_eq!(parse_print_uris(&foreign, &mirror()), Err(AnswerProblem::ForeignPlace { uri }));
    }

    #[test]
    fn percent_codes_round_trip() {
        for text in ["pool/a_1%3a2~x+y.deb", "ü", ""] {
            assert_eq!(percent_decode(&percent_encode(text)).as_deref(), Some(text));
        }
        for bad in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }

    fn pin(name: &str) -> Pin {
        Pin { name: name.into(), version: "1".into(), size: 1, sha256: Sha256([0; 32]), detail: BTreeMap::new() }
    }

    #[test]
    fn what_is_left_out_takes_its_own_dependencies_along() {
        let records = "Package: kernel-meta\nDepends: kernel-6.12 (= 6.12-1)\n\n\
            Package: kernel-6.12\nDepends: kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120) | initramfs-maker\nPre-Depends: libz:any\n\n\
            Package: kmod\nDepends: libkmod\n\nPackage: libkmod\n\nPackage: linux-base\n\nPackage: libz\n\n\
            Package: dracut\nProvides: initramfs-maker (= 1), other\nDepends: libz, udev\n\nPackage: udev\n";
        let all = ["dracut", "kernel-6.12", "kernel-meta", "kmod", "libkmod", "libz", "linux-base", "udev"];
        let kept = |without: &[&str]| {
            let globs: Vec<String> = without.iter().map(|g| g.to_string()).collect();
            let kept =
                prune(all.map(pin).to_vec(), &["kernel-meta"], &compile_globs(&globs).unwrap(), records).unwrap();
            kept.into_iter().map(|p| p.name).collect::<Vec<_>>()
        };
        assert_eq!(kept(&[]), all);
        assert_eq!(kept(&["dracut", "linux-base", "kmod"]), ["kernel-6.12", "kernel-meta", "libz"]);
        assert_eq!(kept(&["*mod"]), ["dracut", "kernel-6.12", "kernel-meta", "libz", "linux-base", "udev"]);
        assert_eq!(kept(&["kernel-?.*"]), ["kernel-meta"]);
    }

    #[test]
    fn relationship_fields() {
        assert_eq!(names_of("a (>= 1:2.3~) | b:any, c [amd64 i386],\n d <!nocheck>"), ["a", "b", "c", "d"]);
        assert_eq!(names_of(" , "), [""; 0]);
    }
}
