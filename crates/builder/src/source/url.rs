//! A file or archive at fixed addresses; the recipe itself pins its size and hash.

use super::archive::{Limits, check_symlink, open_tar};
use super::{Context, PackageFacts, Pin, Pool, Source, SourceError};
use crate::entry::{Body, BodyAt, Entry, Kind, Sha256};
use crate::fetch::{Request, Via, fetch_to_cache, redact};
use crate::recipe::UrlSpec;

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
            let offline = || SourceError::Offline { name: pin.name.clone() };
            let file = cx.cache.blob(&pin.sha256).ok_or_else(offline)?;
            pool.entries = if self.spec.unpack {
                let limits = Limits::default();
                let found = open_tar(cx.cache, &file, &pin.sha256, &pin.name, limits, cx.settings.jobs)?;
                strip_entries(found, self.spec.strip, &pin.name)?
            } else {
                let help = "write it as octal permission bits, such as `0755`";
                let mode =
                    u32::from_str_radix(&self.spec.mode, 8).map_err(|_| self.bad("its mode is no number", help))?;
                let at = BodyAt::File { path: file.into(), offset: 0 };
                let kind = Kind::File(Body { sha256: pin.sha256, size: pin.size, at });
                vec![Entry::of_root(self.name(), kind, mode)]
            };
            let purl = format!("pkg:generic/{}?checksum=sha256:{}", pin.name, pin.sha256);
            let facts = PackageFacts { name: pin.name.clone(), purl: Some(purl), ..PackageFacts::default() };
            pool.packages.push(facts);
        }
        Ok(pool)
    }
}

/// Drops `count` leading components of every path. Folders that are dropped whole are fine, anything else is an error.
fn strip_entries(entries: Vec<Entry>, count: u32, archive: &str) -> Result<Vec<Entry>, SourceError> {
    let bad = |entry: &str, problem: &str| SourceError::BadArchive {
        archive: archive.into(),
        entry: entry.into(),
        problem: problem.into(),
    };
    let strip = |path: &str| path.splitn(count as usize + 1, '/').nth(count as usize).map(String::from);
    let mut kept = Vec::with_capacity(entries.len());
    for mut entry in entries {
        let Some(path) = strip(&entry.path) else {
            match entry.kind {
                Kind::Dir => continue,
                _ => return Err(bad(&entry.path, &format!("no path is left without its first {count} parts"))),
            }
        };
        if let Kind::Hardlink(target) = &mut entry.kind {
            *target = strip(target).ok_or_else(|| bad(&entry.path, "a hard link to what is left out"))?;
        }
        if let Kind::Symlink(target) = &entry.kind {
            check_symlink(&path, target).map_err(|problem| bad(&entry.path, &problem))?;
        }
        kept.push(Entry { path, ..entry });
    }
    kept.sort_by(|a, b| a.path.cmp(&b.path));
    // A folder may come from several places above it.
    kept.dedup_by(|b, a| a.path == b.path && a.kind == Kind::Dir && b.kind == Kind::Dir);
    match kept.windows(2).find(|pair| pair[0].path == pair[1].path) {
        Some(pair) => Err(bad(&pair[0].path, "two entries have this path once their first parts are dropped")),
        None => Ok(kept),
    }
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

    #[test]
    fn leading_parts_are_dropped() {
        let hard = entry("t-1/c", Kind::Hardlink("t-1/bin/x".into()));
        let entries = vec![entry("t-1", Kind::Dir), entry("t-1/bin", Kind::Dir), file("t-1/bin/x"), hard];
        assert_eq!(strip_entries(entries.clone(), 0, "a").unwrap().len(), 4);
        let stripped = strip_entries(entries, 1, "a").unwrap();
        let paths: Vec<&str> = stripped.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["bin", "bin/x", "c"]);
        assert_eq!(stripped[2].kind, Kind::Hardlink("bin/x".into()));
    }

    #[test]
    fn nothing_is_lost_in_silence() {
        let strip = |entries| strip_entries(entries, 1, "a").unwrap_err().to_string();
        assert!(strip(vec![file("README")]).contains("no path is left"));
        assert!(strip(vec![file("a/x"), file("b/x")]).contains("two entries have this path"));
        assert!(strip(vec![entry("a/x", Kind::Symlink("../../etc".into()))]).contains("out of the tree"));
        let dirs = vec![entry("a/bin", Kind::Dir), entry("b/bin", Kind::Dir)];
        assert_eq!(strip_entries(dirs, 1, "a").unwrap().len(), 1);
    }
}
