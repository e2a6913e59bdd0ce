//! A file or archive at fixed addresses; the recipe itself pins its size and hash.

use super::archive::rootfs::{Contents, Manner, Rootfs};
use super::archive::{Limits, open_tar};
use super::{Flaw, FlawKind, PackageFacts, Pin, Pool, Source, SourceError};
use crate::entry::{Body, BodyAt, Entry, Kind, Sha256};
use crate::fetch::{Context, FetchError, Request, Via, fetch_to_cache, redact};
use crate::recipe::UrlSpec;
use std::collections::{BTreeMap, HashMap};

pub struct Url<'a> {
    pub spec: &'a UrlSpec,
}

impl Url<'_> {
    /// The file's name: as the recipe calls it, else the last part of the first address.
    fn name(&self) -> String {
        let address = redact(self.spec.urls.first().map_or("", String::as_str));
        let last = address.rsplit('/').next().unwrap_or_default();
        if self.spec.name.is_empty() { last.into() } else { self.spec.name.clone() }
    }

    fn bad(&self, problem: impl Into<String>, help: &str) -> SourceError {
        SourceError::BadInput { subject: self.name(), problem: problem.into(), help: help.into() }
    }

    fn sha256(&self) -> Result<Sha256, SourceError> {
        let parsed = Sha256::parse(&self.spec.sha256);
        parsed.ok_or_else(|| self.bad("its sha256 is not 64 hex digits", "take it from upstream's checksum file"))
    }
}

impl Source for Url<'_> {
    fn lock(&self, _cx: &Context<'_>) -> Result<Vec<Pin>, SourceError> {
        let (version, detail) = Default::default();
        Ok(vec![Pin { name: self.name(), version, size: self.spec.size, sha256: self.sha256()?, detail }])
    }

    fn fetch(&self, pins: &[Pin], cx: &Context<'_>) -> Result<(), SourceError> {
        for pin in pins {
            let Pin { name, version, size, sha256, .. } = pin;
            let (sha256, size, urls) = (*sha256, *size, self.spec.urls.as_slice());
            fetch_to_cache(&Request { name, version, urls, sha256, size, headers: &[], via: Via::Environment }, cx)?;
        }
        Ok(())
    }

    fn open(&self, pins: &[Pin], cx: &Context<'_>) -> Result<Pool, SourceError> {
        let mut pool = Pool::default();
        for pin in pins {
            let offline = || SourceError::Fetch(FetchError::Offline { name: pin.name.clone() });
            let file = cx.cache.blob(&pin.sha256).ok_or_else(offline)?;
            if self.spec.unpack {
                let unpacked = open_tar(cx.cache, &pin.sha256, &pin.name, Limits::default(), cx.settings.jobs)?;
                let mut rootfs = Rootfs::new(Manner::Tar);
                rootfs.lay(&pin.name, &unpacked.members);
                let found = strip(rootfs.finish(), self.spec.strip, &pin.name);
                (pool.entries, pool.flaws) = (found.entries, found.flaws);
            } else {
                let help = "write it as octal permission bits, such as `0755`";
                let mode =
                    u32::from_str_radix(&self.spec.mode, 8).map_err(|_| self.bad("its mode is no number", help))?;
                let at = BodyAt::File { path: file.into(), offset: 0 };
                let kind = Kind::File(Body { sha256: pin.sha256, size: pin.size, at });
                pool.entries = vec![Entry::of_root(self.name(), kind, mode)];
            }
            let purl = format!("pkg:generic/{}?checksum=sha256:{}", pin.name, pin.sha256);
            let facts = PackageFacts { name: pin.name.clone(), purl: Some(purl), ..PackageFacts::default() };
            pool.packages.push(facts);
        }
        Ok(pool)
    }
}

/// Drops `count` leading components of every path. Folders that are dropped whole are fine; of anything else it is a flaw to
/// have no path left, or one that another entry has.
fn strip(contents: Contents, count: u32, archive: &str) -> Contents {
    if count == 0 {
        return contents;
    }
    let shorter = |path: &str| path.splitn(count as usize + 1, '/').nth(count as usize).map(String::from);
    let bodies: HashMap<&str, &Kind> =
        contents.entries.iter().map(|entry| (entry.path.as_str(), &entry.kind)).collect();
    let mut kept: BTreeMap<String, Entry> = BTreeMap::new();
    let mut flaws: Vec<Flaw> = Vec::new();
    let mut flaw = |path: &str, problem: String| {
        flaws.push(Flaw { archive: archive.into(), path: path.into(), problem, kind: FlawKind::Unusable });
    };
    for entry in &contents.entries {
        let Some(path) = shorter(&entry.path) else {
            if entry.kind != Kind::Dir {
                flaw(&entry.path, format!("no path is left without its first {count} parts"));
            }
            continue;
        };
        let kind = match &entry.kind {
            // The name that is left out may be the one that the others are links to.
            Kind::Hardlink(target) => match shorter(target) {
                Some(target) => Kind::Hardlink(target),
                None => bodies[target.as_str()].clone(),
            },
            kind => kind.clone(),
        };
        let entry = Entry { path: path.clone(), kind, ..entry.clone() };
        match kept.get(&path) {
            None => drop(kept.insert(path, entry)),
            // A folder may come from several places above it.
            Some(there) if there.kind == Kind::Dir && entry.kind == Kind::Dir => {}
            Some(_) => flaw(&path, "two entries have this path once their first parts are dropped".into()),
        }
    }
    flaws.extend(
        contents
            .flaws
            .iter()
            .map(|flaw| Flaw { path: shorter(&flaw.path).unwrap_or_else(|| flaw.path.clone()), ..flaw.clone() }),
    );
    Contents { entries: kept.into_values().collect(), flaws }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry::of_root(path, kind, 0o755)
    }

    fn file(path: &str) -> Entry {
        entry(path, Kind::File(Body::from_bytes(*b"x")))
    }

    fn stripped(entries: Vec<Entry>, count: u32) -> Contents {
        strip(Contents { entries, flaws: Vec::new() }, count, "a")
    }

    #[test]
    fn leading_parts_are_dropped() {
        let hard = entry("t-1/c", Kind::Hardlink("t-1/bin/x".into()));
        let entries = vec![entry("t-1", Kind::Dir), entry("t-1/bin", Kind::Dir), file("t-1/bin/x"), hard];
        assert_eq!(stripped(entries.clone(), 0).entries.len(), 4);
        let stripped = stripped(entries, 1);
        let paths: Vec<&str> = stripped.entries.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["bin", "bin/x", "c"]);
        assert_eq!(stripped.entries[2].kind, Kind::Hardlink("bin/x".into()));
        assert_eq!(stripped.flaws, []);
    }

    #[test]
    fn what_is_lost_is_a_flaw() {
        let problem = |entries| stripped(entries, 1).flaws.remove(0).problem;
        assert!(problem(vec![file("README"), file("a/x")]).contains("no path is left"));
        assert!(problem(vec![file("a/x"), file("b/x")]).contains("two entries have this path"));
        let dirs = vec![entry("a/bin", Kind::Dir), entry("b/bin", Kind::Dir)];
        assert_eq!(stripped(dirs, 1).entries.len(), 1);
        // The other name of a file keeps its body.
        let link = entry("a/x", Kind::Hardlink("README".into()));
        assert_eq!(stripped(vec![file("README"), link], 1).entries, [file("x")]);
        let climbing = entry("a/x", Kind::Symlink("../../etc".into()));
        assert_eq!(stripped(vec![climbing], 1).entries, [entry("x", Kind::Symlink("../../etc".into()))]);
    }
}
