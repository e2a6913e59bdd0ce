//! One attempt to bring a body from one place into its partial file.

use super::pace::{Paced, is_too_slow};
use super::{Context, FetchError};
use super::{Patience, Request, http};
use crate::cache::CacheError;
use crate::entry::Sha256;
use crate::ui::Task;
use sha2::{Digest, Sha256 as Hasher};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::Response;

/// How an attempt ended.
pub enum Attempt {
    /// The partial file is whole and right.
    Done,
    /// The place may do better next time.
    Again(FetchError),
    /// Too slow, and there are other places.
    Slow(FetchError),
    /// The place does not have it.
    Never(FetchError),
}

/// Resumes (or starts) the download from `url`. An error is one that no other place could mend, such as a full disk.
pub fn attempt(
    request: &Request<'_>,
    url: &str,
    cx: &Context<'_>,
    patience: Patience,
    has_others: bool,
    task: &Task,
) -> Result<Attempt, FetchError> {
    let mut partial = Partial::open(&cx.cache.partial(&request.sha256)?, request.size)?;
    let resumed = partial.size > 0;
    if partial.size < request.size || request.size == 0 {
        let from = resumed.then_some(partial.size);
        let answer = match http::get(url, request.via, request.headers, from, patience)? {
            Ok(answer) => answer,
            Err(refusal) => {
                let error = refusal.to_error(request.name, request.version, url);
                return Ok(if refusal.is_final() { Attempt::Never(error) } else { Attempt::Again(error) });
            }
        };
        let pace = (patience.least(has_others), patience.window);
        if let Some(ended) = take_body(answer, request, url, &mut partial, pace, task)? {
            return Ok(ended);
        }
    }
    let got = partial.sha256();
    if got == request.sha256 {
        return Ok(Attempt::Done);
    }
    partial.discard()?;
    let error = FetchError::WrongHash { name: request.name.into(), expected: request.sha256, got };
    // What was there before may have been wrong: then the same place can still serve the right body.
    Ok(if resumed { Attempt::Again(error) } else { Attempt::Never(error) })
}

/// Appends the answer's body; `None` when the partial file has its full size.
fn take_body(
    answer: Response<ureq::Body>,
    request: &Request<'_>,
    url: &str,
    partial: &mut Partial,
    (least, window): (u64, Duration),
    task: &Task,
) -> Result<Option<Attempt>, FetchError> {
    let again = |cause: String| Ok(Some(Attempt::Again(http::failure(request.name, url, cause))));
    match answer.status().as_u16() {
        206 if content_start(&answer) == Some(partial.size) => {}
        200 => partial.restart()?,
        _ => {
            partial.discard()?;
            return again("does not resume where it was asked to".into());
        }
    }
    if let Some(rest) = answer.body().content_length()
        && partial.size + rest != request.size
    {
        return wrong_size(request, partial, partial.size + rest);
    }
    task.advance(partial.size);
    let mut body = Paced::new(answer.into_body().into_with_config().limit(u64::MAX).reader(), least, window);
    let mut buffer = vec![0; 1 << 16];
    loop {
        // One byte more than is left, to see a server that sends too much.
        let room = (request.size - partial.size).saturating_add(1).min(buffer.len() as u64) as usize;
        match body.read(&mut buffer[..room]) {
            Ok(0) if partial.size == request.size => return Ok(None),
            Ok(0) => return again(format!("stopped after {} of {} bytes", partial.size, request.size)),
            Ok(n) if partial.size + n as u64 > request.size => {
                let got = partial.size + n as u64;
                return wrong_size(request, partial, got);
            }
            Ok(n) => {
                partial.append(&buffer[..n])?;
                task.advance(n as u64);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => {
                let cause = format!("stopped after {} of {} bytes: {e}", partial.size, request.size);
                let failure = http::failure(request.name, url, cause);
                return Ok(Some(if is_too_slow(&e) { Attempt::Slow(failure) } else { Attempt::Again(failure) }));
            }
        }
    }
}

fn wrong_size(request: &Request<'_>, partial: &mut Partial, got: u64) -> Result<Option<Attempt>, FetchError> {
    partial.discard()?;
    let name = request.name.into();
    Ok(Some(Attempt::Never(FetchError::WrongSize { name, expected: request.size, got })))
}

/// First byte of a 206 answer: `Content-Range: bytes FIRST-LAST/SIZE` (RFC 9110 section 14.4).
fn content_start(answer: &Response<ureq::Body>) -> Option<u64> {
    let range = answer.headers().get("content-range")?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// The beginning of a body, with the hash of what is there.
struct Partial {
    path: PathBuf,
    file: File,
    size: u64,
    hasher: Hasher,
}

impl Partial {
    fn open(path: &Path, limit: u64) -> Result<Self, CacheError> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(CacheError::io("open", path))?;
        let mut partial = Self { path: path.into(), file, size: 0, hasher: Hasher::new() };
        let mut buffer = vec![0; 1 << 16];
        loop {
            match partial.file.read(&mut buffer).map_err(CacheError::io("read", path))? {
                0 => return Ok(partial),
                n => {
                    partial.hasher.update(&buffer[..n]);
                    partial.size += n as u64;
                }
            }
            if partial.size > limit {
                partial.restart()?;
                return Ok(partial);
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), CacheError> {
        self.file.write_all(bytes).map_err(CacheError::io("write", &self.path))?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), CacheError> {
        self.file.set_len(0).map_err(CacheError::io("write", &self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(CacheError::io("write", &self.path))?;
        (self.size, self.hasher) = (0, Hasher::new());
        Ok(())
    }

    /// Removes the file: what it holds is not the beginning of the body.
    fn discard(&mut self) -> Result<(), CacheError> {
        std::fs::remove_file(&self.path).map_err(CacheError::io("remove", &self.path))
    }

    fn sha256(&self) -> Sha256 {
        Sha256(self.hasher.clone().finalize().into())
    }
}
