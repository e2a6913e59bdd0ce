//! Brings bodies into the cache by HTTP: from several places in turn, resumed where they were cut short, and verified
//! by size and SHA-256 before they count.

mod context;
mod download;
mod error;
mod http;
mod pace;
mod vendor;

pub use context::{Context, Refreshed, Settings};
pub use error::FetchError;
pub use http::{agent, redact};
pub use vendor::{VendorDir, VendorFiller, toolchain_sum};

use crate::cache::damage::BlobState;
use crate::cache::fetch_key;
use crate::entry::Sha256;

use download::{Attempt, attempt};
use pace::Paced;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;
use ureq::Body;
use ureq::http::Response;

/// A body to fetch.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// For messages, with `version` (may be empty).
    pub name: &'a str,
    pub version: &'a str,
    /// The same body at several places, tried in turn.
    pub urls: &'a [String],
    pub sha256: Sha256,
    /// Bytes.
    pub size: u64,
    /// More request headers; not sent on to another host after a redirect if they authorise.
    pub headers: &'a [(String, String)],
    pub via: Via<'a>,
}

/// How places are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via<'a> {
    /// Through the proxy that the environment variables name, if any.
    Environment,
    Direct,
    /// Through the proxy at that address.
    Proxy(&'a str),
}

/// How long to try.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Seconds to connect (with TLS), and for the answer's headers.
    pub connect: Duration,
    /// A body that brings nothing for so long is given up.
    pub stall: Duration,
    /// A body that brings fewer bytes than `least` in this time is given up, as long as there is another place that was not slow.
    pub window: Duration,
    pub least: u64,
    /// The same for the only place that is left: far below `least`, so that only a server that holds a build up on purpose, or
    /// does not work, is given up.
    pub least_alone: u64,
    /// Times that all places are tried.
    pub rounds: u32,
    /// Pause after the first round; doubles with each further one, up to 8 s.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            connect: s(20),
            stall: s(30),
            window: s(60),
            least: 60 << 10,
            least_alone: 6 << 10,
            rounds: 5,
            pause: Duration::from_millis(500),
        }
    }
}

impl Patience {
    /// The bytes that a body must bring in a window.
    fn least(&self, has_others: bool) -> u64 {
        if has_others { self.least } else { self.least_alone }
    }
}

const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// The body's place in the cache; fetched unless it is there.
///
/// # Errors
/// [`FetchError::Gone`] when every place says that it is not there (404, 410), [`FetchError::Offline`],
/// [`FetchError::WrongHash`], [`FetchError::WrongSize`], [`FetchError::Failed`] with the last failure of each place.
pub fn fetch_to_cache(request: &Request<'_>, cx: &Context<'_>) -> Result<PathBuf, FetchError> {
    fetch_patiently(request, cx, Patience::default())
}

/// [`fetch_to_cache`] with other times.
pub fn fetch_patiently(request: &Request<'_>, cx: &Context<'_>, patience: Patience) -> Result<PathBuf, FetchError> {
    if let Some(path) = held(request.name, request.sha256, request.size, cx)? {
        return Ok(path);
    }
    if cx.settings.offline {
        return Err(FetchError::Offline { name: request.name.into() });
    }
    let wait = || cx.ui.say(format_args!("waiting for another build that fetches {}", request.name));
    let _lock = cx.cache.lock_or_wait(&fetch_key(&request.sha256.to_string()), wait)?;
    if let Some(path) = cx.cache.blob(&request.sha256) {
        return Ok(path);
    }
    let task = cx.ui.task(format!("fetch {} {}", request.name, request.version).trim_end(), Some(request.size));
    let mut places = Places::new(request.urls);
    while let Some(i) = places.next(patience) {
        match attempt(request, &request.urls[i], cx, patience, places.has_others(i), &task)? {
            Attempt::Done => return Ok(cx.cache.adopt_partial(&request.sha256)?),
            Attempt::Slow(failure) => {
                places.slow[i] = true;
                places.failed(i, failure, false, cx);
            }
            Attempt::Again(failure) => places.failed(i, failure, false, cx),
            Attempt::Never(failure) => places.failed(i, failure, true, cx),
        }
    }
    Err(places.into_error(request.name, request.version))
}

/// Where the cache holds a body of `size` bytes. One that is damaged is discarded with a line: then there is none. A build from a
/// vendor folder takes from there what the cache lacks.
///
/// # Errors
/// [`FetchError::WrongSize`] when the body is right and `size` is not; those of [`VendorDir::bring`].
pub fn held(name: &str, sha256: Sha256, size: u64, cx: &Context<'_>) -> Result<Option<PathBuf>, FetchError> {
    match cx.cache.held_blob(&sha256, size)? {
        BlobState::Absent => vendored(name, sha256, size, cx),
        BlobState::Whole(path) => Ok(Some(path)),
        BlobState::OtherSize(got) => Err(FetchError::WrongSize { name: name.into(), expected: size, got }),
        BlobState::Discarded(path) => {
            cx.ui.say(format_args!("`{}` in the cache is damaged: {name} is fetched anew", path.display()));
            vendored(name, sha256, size, cx)
        }
    }
}

fn vendored(name: &str, sha256: Sha256, size: u64, cx: &Context<'_>) -> Result<Option<PathBuf>, FetchError> {
    cx.settings.vendor.as_ref().map(|vendor| vendor.bring(name, &sha256, size, cx.cache)).transpose()
}

/// A small text (index, manifest) from the first place that answers, at most `limit` bytes.
///
/// # Errors
/// As [`fetch_to_cache`]; [`FetchError::Unusable`] when it is larger than `limit`.
pub fn fetch_small(
    name: &str,
    urls: &[String],
    headers: &[(String, String)],
    limit: u64,
    cx: &Context<'_>,
) -> Result<Vec<u8>, FetchError> {
    fetch_small_patiently(name, urls, headers, limit, cx, Patience::default())
}

/// [`fetch_small`] with other times.
pub fn fetch_small_patiently(
    name: &str,
    urls: &[String],
    headers: &[(String, String)],
    limit: u64,
    cx: &Context<'_>,
    patience: Patience,
) -> Result<Vec<u8>, FetchError> {
    ask_places(name, urls, headers, cx, patience, |url, answer, least| {
        let mut bytes = Vec::new();
        let body = answer.into_body().into_with_config().limit(u64::MAX).reader();
        let body = Paced::new(body, least, patience.window);
        match body.take(limit + 1).read_to_end(&mut bytes) {
            Ok(n) if n as u64 > limit => Err(Unread::Anywhere(too_large(url, limit))),
            Ok(_) => Ok(bytes),
            Err(e) => Err(Unread::Now(http::failure(name, url, &e))),
        }
    })
}

/// Why an answer was of no use.
enum Unread {
    /// Asking this place again may help.
    Now(FetchError),
    /// No place helps.
    Anywhere(FetchError),
}

/// Asks one place after the other until `read` makes something of an answer with status 200.
fn ask_places<T>(
    name: &str,
    urls: &[String],
    headers: &[(String, String)],
    cx: &Context<'_>,
    patience: Patience,
    read: impl Fn(&str, Response<Body>, u64) -> Result<T, Unread>,
) -> Result<T, FetchError> {
    if cx.settings.offline {
        return Err(FetchError::Offline { name: name.into() });
    }
    let mut places = Places::new(urls);
    while let Some(i) = places.next(patience) {
        let url = &urls[i];
        let least = patience.least(places.has_others(i));
        let refusal = match http::get(url, Via::Environment, headers, None, patience)? {
            Ok(answer) if answer.status().as_u16() == 200 => match read(url, answer, least) {
                Ok(read) => return Ok(read),
                Err(Unread::Anywhere(e)) => return Err(e),
                Err(Unread::Now(e)) => {
                    // Waited for if it is asked again: the others may be no better.
                    places.slow[i] = true;
                    places.failed(i, e, false, cx);
                    continue;
                }
            },
            Ok(answer) => http::Refusal::Status(answer.status().as_u16()),
            Err(refusal) => refusal,
        };
        places.failed(i, refusal.to_error(name, "", url), refusal.is_final(), cx);
    }
    Err(places.into_error(name, ""))
}

fn too_large(url: &str, limit: u64) -> FetchError {
    FetchError::Unusable {
        subject: redact(url),
        problem: format!("larger than {limit} bytes, which is too much for what it should be"),
        help: "check the address".into(),
    }
}

/// The places of a body: which comes next, and what went wrong at each.
struct Places<'a> {
    urls: &'a [String],
    last: Vec<Option<FetchError>>,
    dead: Vec<bool>,
    /// Were given up because they were slow.
    slow: Vec<bool>,
    /// Rounds over all places that are over.
    round: u32,
    at: usize,
}

impl<'a> Places<'a> {
    fn new(urls: &'a [String]) -> Self {
        let none = vec![false; urls.len()];
        Self { urls, last: urls.iter().map(|_| None).collect(), dead: none.clone(), slow: none, round: 0, at: 0 }
    }

    /// Another place may be faster.
    fn has_others(&self, place: usize) -> bool {
        (0..self.urls.len()).any(|i| i != place && !self.dead[i] && !self.slow[i])
    }

    /// The next place to try; pauses between two rounds.
    fn next(&mut self, patience: Patience) -> Option<usize> {
        while self.dead.contains(&false) {
            if self.at == self.urls.len() {
                self.round += 1;
                if self.round >= patience.rounds {
                    return None;
                }
                std::thread::sleep((patience.pause * 2u32.pow((self.round - 1).min(16))).min(LONGEST_PAUSE));
                self.at = 0;
            }
            self.at += 1;
            if !self.dead[self.at - 1] {
                return Some(self.at - 1);
            }
        }
        None
    }

    fn failed(&mut self, place: usize, failure: FetchError, never_again: bool, cx: &Context<'_>) {
        cx.ui.detail(&failure);
        self.last[place] = Some(failure);
        self.dead[place] |= never_again;
    }

    /// The most telling of the failures.
    fn into_error(self, name: &str, version: &str) -> FetchError {
        let mut failures: Vec<FetchError> = self.last.into_iter().flatten().collect();
        if !failures.is_empty() && failures.iter().all(|e| matches!(e, FetchError::Gone { .. })) {
            let place = self.urls.iter().map(|url| redact(url)).collect::<Vec<_>>().join(", ");
            return FetchError::Gone { name: name.into(), version: version.into(), place };
        }
        let wrong = |e: &FetchError| matches!(e, FetchError::WrongHash { .. } | FetchError::WrongSize { .. });
        if let Some(i) = failures.iter().position(wrong) {
            return failures.swap_remove(i);
        }
        let causes: Vec<String> = failures
            .into_iter()
            .map(|e| match e {
                FetchError::Gone { place, .. } => format!("{place}: not there"),
                FetchError::Failed { cause, .. } => cause,
                e => e.to_string(),
            })
            .collect();
        let cause = if causes.is_empty() { "no address is known".into() } else { causes.join("; ") };
        FetchError::Failed { name: name.into(), cause }
    }
}
