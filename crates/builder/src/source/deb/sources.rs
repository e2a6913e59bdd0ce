//! Source packages: what binary packages were built from, by the `Sources` lists of a mirror, which apt fetches and verifies.

use super::apt::{Apt, Lists, Trust, load_trust};
use super::fetch_from_mirrors;
use super::mirror::{Mirror, load_mirrors};
use super::resolve::{ARCHIVE, FILENAME, MAIN, SECURITY};
use crate::entry::Sha256;
use crate::fetch::{Context, FetchError};
use crate::recipe::DebSpec;
use crate::source::{Pin, SourceError, SourcePackage};
use crate::utc::utc_time;
use deb822_fast::{Deb822, Paragraph};
use std::collections::{BTreeMap, BTreeSet};

/// The files of source packages: `.dsc`, tarballs and their signatures, all of them in the cache.
pub type SourceFiles = BTreeMap<SourcePackage, Vec<Pin>>;

/// Fetches source packages of the spec's suite from the user's mirrors; what those have dropped from the snapshot archive, as it
/// was at `time`, seconds since 1970.
///
/// # Errors
/// [`SourceError::NoSources`] names the versions that no list has, and what each place said.
pub fn fetch_sources(
    wanted: &BTreeSet<SourcePackage>,
    spec: &DebSpec,
    time: u64,
    cx: &Context<'_>,
) -> Result<SourceFiles, SourceError> {
    super::apt::check_spec(spec)?;
    fetch_sources_at(&load_mirrors(cx.settings)?, &load_trust()?, wanted, spec, time, cx)
}

/// [`fetch_sources`] from these mirrors.
pub fn fetch_sources_at(
    mirrors: &[Mirror],
    trust: &Trust,
    wanted: &BTreeSet<SourcePackage>,
    spec: &DebSpec,
    time: u64,
    cx: &Context<'_>,
) -> Result<SourceFiles, SourceError> {
    let dated = cx.settings.snapshot.as_deref().map(|address| dated_mirror(address, time));
    let places = mirrors.iter().map(|mirror| (mirror, trust.clone()));
    let places: Vec<_> = places.chain(dated.iter().map(|mirror| (mirror, trust_old_lists(trust)))).collect();
    let (mut found, mut said) = (SourceFiles::new(), Vec::new());
    for (mirror, trust) in &places {
        let missing: Vec<&SourcePackage> = wanted.iter().filter(|source| !found.contains_key(source)).collect();
        if missing.is_empty() {
            break;
        }
        let failures = match fetch_from(mirror, trust, &missing, spec, cx, &mut found) {
            Ok(failures) => failures,
            Err(e) => vec![may_be_elsewhere(e)?],
        };
        let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
        said.push(if failures.is_empty() {
            mirror.main.clone()
        } else {
            format!("{} ({})", mirror.main, failures.join("; "))
        });
    }
    let missing = wanted.iter().filter(|source| !found.contains_key(source));
    let missing: Vec<String> = missing.map(|SourcePackage { name, version }| format!("{name} {version}")).collect();
    if missing.is_empty() {
        return Ok(found);
    }
    Err(SourceError::NoSources { packages: missing.join(", "), places: said.join("; ") })
}

/// The snapshot archive is a mirror of each moment (<https://snapshot.debian.org/>, "Usage").
fn dated_mirror(address: &str, time: u64) -> Mirror {
    let moment = utc_time(time).replace(['-', ':'], "");
    Mirror {
        main: format!("{address}/archive/debian/{moment}"),
        security: format!("{address}/archive/debian-security/{moment}"),
    }
}

/// Signatures count on lists of that time, whose `Valid-Until` has passed.
fn trust_old_lists(trust: &Trust) -> Trust {
    let mut trust = trust.clone();
    trust.options.insert("Acquire::Check-Valid-Until".into(), "false".into());
    trust
}

/// A failure after which another place may have what is wanted.
fn may_be_elsewhere(e: SourceError) -> Result<SourceError, SourceError> {
    match e {
        SourceError::Command { .. } | SourceError::Fetch(FetchError::Gone { .. } | FetchError::Failed { .. }) => Ok(e),
        other => Err(other),
    }
}

/// Fetches what one mirror has of it, and gives the failures of the rest.
fn fetch_from(
    mirror: &Mirror,
    trust: &Trust,
    wanted: &[&SourcePackage],
    spec: &DebSpec,
    cx: &Context<'_>,
    found: &mut SourceFiles,
) -> Result<Vec<SourceError>, SourceError> {
    let names: BTreeSet<&str> = wanted.iter().map(|source| source.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let apt = Apt::open(Lists::Sources, spec, mirror, trust, cx)?;
    apt.update()?;
    let listed = parse_sources(&apt.sources(&names)?).map_err(|problem| SourceError::Command {
        command: "apt-cache showsrc".into(),
        status: "its answer is not understood".into(),
        stderr: problem,
    })?;
    let mut failures = Vec::new();
    for source in wanted {
        // A version may be in the suite and in the security archive.
        for files in listed.iter().filter(|(listed, _)| listed == *source).map(|(_, files)| files) {
            let fetch = |file| fetch_from_mirrors(file, std::slice::from_ref(mirror), &trust.options, cx);
            match files.iter().try_for_each(fetch) {
                Ok(()) => drop(found.insert((*source).clone(), files.clone())),
                Err(e) => failures.push(may_be_elsewhere(e)?),
            }
            if found.contains_key(source) {
                break;
            }
        }
    }
    Ok(failures)
}

/// The files of each source package in stanzas of `Sources` (<https://wiki.debian.org/DebianRepository/Format>); the error says what
/// is wrong with them.
fn parse_sources(text: &str) -> Result<Vec<(SourcePackage, Vec<Pin>)>, String> {
    let document: Deb822 = text.parse().map_err(|e: deb822_fast::Error| format!("no deb822: {e}"))?;
    document.iter().map(parse_stanza).collect()
}

fn parse_stanza(stanza: &Paragraph) -> Result<(SourcePackage, Vec<Pin>), String> {
    let field = |name: &str| stanza.get(name).map(str::trim).ok_or_else(|| format!("field `{name}` is missing"));
    let source = SourcePackage { name: field("Package")?.into(), version: field("Version")?.into() };
    let folder = field("Directory")?;
    // So it is in Debian's security archive, and in no other.
    let archive = if folder.starts_with("pool/updates/") { SECURITY } else { MAIN };
    let file = |line: &str| -> Option<Pin> {
        let [sha256, size, name] = line.split_whitespace().collect::<Vec<_>>()[..] else { return None };
        // It becomes the name of a file.
        if name.contains('/') || name.starts_with('.') {
            return None;
        }
        let detail = [(ARCHIVE, archive.to_string()), (FILENAME, format!("{folder}/{name}"))];
        Some(Pin {
            name: name.into(),
            version: source.version.clone(),
            size: size.parse().ok()?,
            sha256: Sha256::parse(sha256)?,
            detail: detail.map(|(key, value)| (key.to_string(), value)).into(),
        })
    };
    let lines = field("Checksums-Sha256")?.lines().filter(|line| !line.trim().is_empty());
    let files =
        lines.map(|line| file(line).ok_or_else(|| format!("`{line}` names no file"))).collect::<Result<_, _>>()?;
    Ok((source, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_name_files_and_where_they_are() {
        let hex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let stanza = |folder: &str, file: &str| {
            format!(
                "Package: z\nVersion: 1:2-3\nFiles:\n 00 5 x\nChecksums-Sha256:\n {hex} 5 {file}\nDirectory: {folder}\n"
            )
        };
        let found = parse_sources(&stanza("pool/updates/main/z/z", "z_2-3.dsc")).unwrap();
        let (source, files) = &found[0];
        assert_eq!((source.name.as_str(), source.version.as_str()), ("z", "1:2-3"));
        assert_eq!((files[0].name.as_str(), files[0].size), ("z_2-3.dsc", 5));
        assert_eq!(files[0].detail[FILENAME], "pool/updates/main/z/z/z_2-3.dsc");
        assert_eq!(files[0].detail[ARCHIVE], SECURITY);
        let found = parse_sources(&stanza("pool/main/z/z", "z_2-3.dsc")).unwrap();
        assert_eq!(found[0].1[0].detail[ARCHIVE], MAIN);
        for bad in ["../z", ".z", ""] {
            assert!(parse_sources(&stanza("pool", bad)).unwrap_err().ends_with("names no file"), "{bad}");
        }
        assert_eq!(parse_sources("Package: z\n").unwrap_err(), "field `Version` is missing");
    }

    #[test]
    fn the_snapshot_archive_is_a_mirror_of_the_locks_time() {
        let mirror = dated_mirror("https://s", 1_795_253_431);
        assert_eq!(mirror.main, "https://s/archive/debian/20261121T093031Z");
        assert_eq!(mirror.security, "https://s/archive/debian-security/20261121T093031Z");
    }
}
