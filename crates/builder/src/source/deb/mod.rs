//! Debian packages: resolved and verified by the host's apt, fetched by hash, read by us.
//!
//! A pin holds no host: `archive` (`debian` or `debian-security`) and `filename` (`pool/...`) say where every mirror keeps it.

pub mod apt;
pub mod ar;
mod control;
mod copyright;
mod host;
mod merge;
pub mod mirror;
pub mod package;
mod resolve;
pub mod snapshot;
pub mod sources;
#[cfg(test)]
mod tests;

use super::archive::Limits;
use super::archive::rootfs::{Contents, Manner, Rootfs};
use super::{PackageFacts, Pin, Pool, Source, SourceError};
use crate::cache::read_blob;
use crate::cache::unpacked::open_unpacked;
use crate::entry::{Body, BodyAt, Entry, Kind};
use crate::fetch::{Context, FetchError, Request, fetch_to_cache, held};
use crate::recipe::DebSpec;
use crate::tool::{Needs, Tool};
use apt::{Apt, Lists, Trust, load_trust};
use host::{load_kept_options, via_of};
use mirror::{Mirror, load_mirrors};
use package::{CONTROL, read_deb};
use resolve::{ARCHIVE, FILENAME, percent_encode};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

/// Downloads at once: mirrors do not like more from one host.
const PARALLEL_FETCHES: usize = 4;

pub struct Deb<'a> {
    pub spec: &'a DebSpec,
}

impl Source for Deb<'_> {
    fn lock(&self, cx: &Context<'_>) -> Result<Vec<Pin>, SourceError> {
        apt::check_spec(self.spec)?;
        resolve_at(&load_mirrors(cx.settings)?, self.spec, &load_trust()?, cx)
    }

    fn fetch(&self, pins: &[Pin], cx: &Context<'_>) -> Result<(), SourceError> {
        if cx.settings.vendor.is_some() {
            return pins.iter().try_for_each(|pin| Ok(held(&pin.name, pin.sha256, pin.size, cx).map(drop)?));
        }
        let missing: Vec<&Pin> = pins.iter().filter(|pin| cx.cache.blob(&pin.sha256).is_none()).collect();
        if let Some(pin) = missing.first().filter(|_| cx.settings.offline) {
            return Err(SourceError::Fetch(FetchError::Offline { name: pin.name.clone() }));
        }
        if missing.is_empty() {
            return Ok(());
        }
        let (mirrors, options) = (load_mirrors(cx.settings)?, load_kept_options()?);
        let queue = Mutex::new(missing.into_iter());
        let next = || queue.lock().map(|mut queue| queue.next()).unwrap_or_default();
        let work = || -> Result<(), SourceError> {
            while let Some(pin) = next() {
                fetch_package(pin, &mirrors, &options, cx)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..PARALLEL_FETCHES).map(|_| scope.spawn(work)).collect();
            // Every thread's result is waited for; the first failure is told.
            let results: Vec<_> = threads
                .into_iter()
                .map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect();
            results.into_iter().collect()
        })
    }

    /// apt resolves; what is pinned is fetched without it.
    fn needs(&self, pins: Option<&[Pin]>) -> Needs {
        let build: &[Tool] = if pins.is_some() { &[] } else { &[Tool::AptGet, Tool::DebianKeyring] };
        Needs { build: build.iter().copied().collect(), ..Needs::default() }
    }

    fn open(&self, pins: &[Pin], cx: &Context<'_>) -> Result<Pool, SourceError> {
        let mut pool = Pool::default();
        let mut opened = Vec::new();
        let mut copyrights = BTreeMap::new();
        for pin in pins {
            let Contents { mut entries, flaws } = open_package(pin, cx)?;
            let (facts, depends) = take_facts(&mut entries, pin, self.spec)?;
            copyrights.insert(pin.name.clone(), load_copyright(&entries, &pin.name)?);
            pool.packages.push(facts);
            pool.depends.extend(depends);
            pool.flaws.extend(flaws.into_iter().map(merge::merge_flaw));
            opened.push((pin.name.as_str(), entries));
        }
        for facts in &mut pool.packages {
            let found = find_copyright(&copyrights, &facts.name);
            let copyright = found.map(|(_, text)| text.into());
            facts.set_licence(found.map(|(owner, text)| copyright::licence_of(owner, text)));
            facts.copyright = copyright;
        }
        pool.entries = merge::merge_packages(opened)?;
        pool.depends.retain(|name| pins.iter().all(|pin| pin.name != *name));
        Ok(pool)
    }
}

/// Resolves with the lists of the first mirror whose lists apt can fetch and verify. There is at least one mirror.
pub fn resolve_at(
    mirrors: &[Mirror],
    spec: &DebSpec,
    trust: &Trust,
    cx: &Context<'_>,
) -> Result<Vec<Pin>, SourceError> {
    for (i, mirror) in mirrors.iter().enumerate() {
        let apt = Apt::open(Lists::Packages, spec, mirror, trust, cx)?;
        match (apt.update(), mirrors.get(i + 1)) {
            (Ok(()), _) => return apt.resolve(),
            (Err(failure @ SourceError::Command { .. }), Some(next)) => {
                cx.ui.say(format_args!("{failure}\n  trying {}", next.main));
            }
            (Err(failure), _) => return Err(failure),
        }
    }
    unreachable!("the last mirror's lists were used or its failure was returned")
}

/// Fetches one package from the mirrors in turn; then from the snapshot archive.
fn fetch_package(
    pin: &Pin,
    mirrors: &[Mirror],
    options: &BTreeMap<String, String>,
    cx: &Context<'_>,
) -> Result<(), SourceError> {
    match (fetch_from_mirrors(pin, mirrors, options, cx), &cx.settings.snapshot) {
        (Err(SourceError::Fetch(failure @ (FetchError::Gone { .. } | FetchError::Failed { .. }))), Some(address)) => {
            Ok(snapshot::fetch_dropped(pin, address, failure, cx)?)
        }
        (result, _) => result,
    }
}

/// Fetches one file of the archive from the mirrors in turn, through the proxies that apt would use.
fn fetch_from_mirrors(
    pin: &Pin,
    mirrors: &[Mirror],
    options: &BTreeMap<String, String>,
    cx: &Context<'_>,
) -> Result<(), SourceError> {
    let detail = |key: &str| pin.detail.get(key).map(String::as_str).unwrap_or_default();
    let (archive, filename) = (detail(ARCHIVE), detail(FILENAME));
    let bad_pin = |problem: &str| SourceError::BadInput {
        subject: pin.name.clone(),
        problem: problem.into(),
        help: "renew the pins with `bootwright lock`".into(),
    };
    if filename.is_empty() || filename.split('/').any(|part| part == "..") {
        return Err(bad_pin("its pin has no usable `filename`"));
    }
    let path = percent_encode(filename);
    let urls: Option<Vec<String>> =
        mirrors.iter().map(|mirror| Some(format!("{}/{path}", mirror.archive(archive)?))).collect();
    let urls = urls.ok_or_else(|| bad_pin("its pin names no known `archive`"))?;
    let Pin { name, version, size, sha256, .. } = pin;
    let mut failure: Option<FetchError> = None;
    for urls in urls.chunk_by(|a, b| via_of(a, options) == via_of(b, options)) {
        let via = via_of(&urls[0], options);
        let request = Request { name, version, urls, sha256: *sha256, size: *size, headers: &[], via };
        match (fetch_to_cache(&request, cx), &failure) {
            (Ok(_), _) => return Ok(()),
            // Mirrors that are reached in another way may still have it; it is gone when all of them say so.
            (Err(FetchError::Gone { .. }), Some(_)) => {}
            (Err(e @ (FetchError::Gone { .. } | FetchError::Failed { .. })), _) => failure = Some(e),
            (Err(e), _) => return Err(e.into()),
        }
    }
    Err(failure.ok_or_else(|| bad_pin("there is no mirror to fetch it from"))?.into())
}

/// What a fetched package holds, with its control file; unpacked into the cache once.
fn open_package(pin: &Pin, cx: &Context<'_>) -> Result<Contents, SourceError> {
    let archive = format!("{} {}", pin.name, pin.version);
    let unpacked = open_unpacked(cx.cache, &format!("deb-{}", pin.sha256), |into| {
        let path = cx
            .cache
            .blob(&pin.sha256)
            .ok_or_else(|| SourceError::Fetch(FetchError::Offline { name: pin.name.clone() }))?;
        let read = |blob: &mut dyn Read| read_deb(blob, &archive, Limits::default(), cx.settings.jobs, into);
        let control = read_blob(&path, &pin.sha256, read)?;
        if (&control.package, &control.version) == (&pin.name, &pin.version) {
            return Ok(());
        }
        let problem = format!("it is `{}` {}", control.package, control.version);
        Err(SourceError::BadArchive { archive: archive.clone(), entry: "control".into(), problem })
    })?;
    let mut rootfs = Rootfs::new(Manner::Tar);
    rootfs.lay(&archive, &unpacked.members);
    Ok(rootfs.finish())
}

/// Takes the control file out of the entries and reads it. Gives what the package depends on too.
fn take_facts(entries: &mut Vec<Entry>, pin: &Pin, spec: &DebSpec) -> Result<(PackageFacts, Vec<String>), SourceError> {
    let damaged = |problem: String| SourceError::BadArchive {
        archive: format!("{} {}", pin.name, pin.version),
        entry: CONTROL.into(),
        problem,
    };
    let at = entries.iter().position(|e| e.path == CONTROL).ok_or_else(|| damaged("it is missing".into()))?;
    let text = read_text(&entries.remove(at))?.ok_or_else(|| damaged("it is no text".into()))?;
    let control = control::parse_control(&text).map_err(damaged)?;
    Ok((control::facts_of(&control, &spec.suite), control.depends))
}

/// A package's copyright file.
enum LoadedCopyright {
    Text(String),
    /// It lies in the package of this name.
    Of(String),
    Unknown,
}

fn load_copyright(entries: &[Entry], package: &str) -> Result<LoadedCopyright, SourceError> {
    Ok(match copyright::find(entries, package) {
        copyright::Copyright::Here(entry) => read_text(entry)?.map_or(LoadedCopyright::Unknown, LoadedCopyright::Text),
        copyright::Copyright::Of(other) => LoadedCopyright::Of(other),
        copyright::Copyright::Absent => LoadedCopyright::Unknown,
    })
}

/// The text, and the package that it lies in: folders of documents may be links to another package's.
fn find_copyright<'a>(
    copyrights: &'a BTreeMap<String, LoadedCopyright>,
    package: &'a str,
) -> Option<(&'a str, &'a str)> {
    let mut name = package;
    for _ in 0..copyrights.len() {
        match copyrights.get(name)? {
            LoadedCopyright::Text(text) => return Some((name, text)),
            LoadedCopyright::Of(other) => name = other,
            LoadedCopyright::Unknown => return None,
        }
    }
    None
}

/// Bytes of a text that are read at most: control and copyright files.
const TEXT_BYTES: u64 = 16 << 20;

/// The body of a regular file as text; `None` for anything else.
fn read_text(entry: &Entry) -> Result<Option<String>, SourceError> {
    let Kind::File(Body { size, at: BodyAt::File { path, offset }, .. }) = &entry.kind else { return Ok(None) };
    if *size > TEXT_BYTES {
        return Ok(None);
    }
    let mut bytes = vec![0; *size as usize];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut bytes, *offset));
    match read {
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(cause) => Err(SourceError::Io { action: "read", path: path.to_path_buf(), cause }),
        Ok(()) => Ok(String::from_utf8(bytes).ok()),
    }
}
