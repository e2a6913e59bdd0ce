//! Downloads a file over as many connections as it takes, also when the server is away for a while.

use super::connection::{HttpConnection, Stream};
use super::message::{ResponseHead, format_request};
use super::pace::Pace;
use super::{HttpConnector, HttpError};
use crate::source::{Http, Source, parse_source};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// At most so many redirects (RFC 9110 section 15.4 warns of loops).
const MOST_REDIRECTS: u32 = 5;
/// Pause after a failed attempt. It doubles, and starts anew when bytes have come.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A source that sends no byte for so long is given up.
const PATIENCE: Duration = Duration::from_secs(90);

/// Takes the downloaded bytes.
pub trait Sink {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Drops all bytes so far: they are of another version of the file.
    fn start_over(&mut self) -> io::Result<()>;
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn start_over(&mut self) -> io::Result<()> {
        self.clear();
        Ok(())
    }
}

/// The size that the file must have, in bytes.
#[derive(Debug, Clone, Copy)]
pub enum ExpectedSize {
    Exactly(u64),
    AtMost(u64),
}

/// A download that is under way.
struct Download<'a> {
    web: &'a dyn HttpConnector,
    source: &'a Http,
    size: ExpectedSize,
    sink: &'a mut dyn Sink,
    /// Bytes that the sink has.
    got: u64,
    /// The version (ETag or Last-Modified) of these bytes.
    validator: Option<String>,
    pace: Rc<Pace>,
}

/// Downloads the whole file into `sink`.
///
/// # Errors
/// [`HttpError`] when the server says that there is no such file, when no byte comes for 90 s, and, if there is another
/// place, when the rate is below [`HttpConnector::least_rate`].
pub fn get(web: &dyn HttpConnector, source: &Http, size: ExpectedSize, sink: &mut dyn Sink) -> Result<(), HttpError> {
    let pace = Rc::new(Pace::new(web.least_rate()));
    let mut download = Download { web, source, size, sink, got: 0, validator: None, pace };
    let mut last_progress = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut said = String::new();
    loop {
        let before = download.got;
        let error = match download.attempt() {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if download.got != before {
            (last_progress, pause) = (Instant::now(), FIRST_PAUSE);
        }
        // A connection that brings nothing takes time too, which counts.
        let error = if error.is_final() { error } else { download.pace.count(0).err().unwrap_or(error) };
        if error.is_final() || last_progress.elapsed() >= web.patience(PATIENCE) {
            return Err(error);
        }
        let text = error.to_string();
        if text != said {
            let so_far = [" (", &download.got.to_string(), " bytes so far)"].concat();
            web.note(&[&Source::Http(source.clone()).to_string()[..], ": ", &text, &so_far, "; trying again"].concat());
            said = text;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl Download<'_> {
    /// Makes one request, and reads its answer as far as it comes.
    fn attempt(&mut self) -> Result<(), HttpError> {
        let (head, connection) = self.ask()?;
        let skip = match head.status {
            206 => self.check_part(&head)?,
            200 => self.check_whole(&head)?,
            416 => {
                self.start_over()?;
                return Err(HttpError::Status { status: 416 });
            }
            status => return Err(HttpError::Status { status }),
        };
        self.receive(connection, skip)
    }

    /// Asks for the part that is missing. Redirects are followed.
    fn ask(&mut self) -> Result<(ResponseHead, HttpConnection), HttpError> {
        let mut place = self.source.clone();
        for _ in 0..=MOST_REDIRECTS {
            let stream: Box<dyn Stream> = self.web.open(&place)?;
            let request = format_request(&host_header(&place), &place.path, self.got, self.validator.as_deref());
            let (head, connection) = HttpConnection::ask(stream, &request, self.pace.clone())?;
            match (head.status, &head.location) {
                (301 | 302 | 303 | 307 | 308, Some(location)) => place = redirect(&place, location)?,
                _ => return Ok((head, connection)),
            }
        }
        Err(HttpError::Redirects)
    }

    /// Checks a part (206): it must begin where our bytes end, and be of the same version and size.
    fn check_part(&mut self, head: &ResponseHead) -> Result<u64, HttpError> {
        let (first, _, total) = head.range.ok_or(HttpError::Range)?;
        let same = self.validator.is_none() || head.validator.is_none() || head.validator == self.validator;
        if first != self.got || !same {
            self.start_over()?;
            return Err(HttpError::Range);
        }
        if let Some(total) = total {
            self.check_size(total)?;
        }
        Ok(0)
    }

    /// Checks a whole file (200): the server supports no ranges, or has another version now. Returns how many of its
    /// bytes are here already.
    fn check_whole(&mut self, head: &ResponseHead) -> Result<u64, HttpError> {
        if let Some(length) = head.length.filter(|_| !head.chunked) {
            self.check_size(length)?;
        }
        if self.got > 0 && (head.validator.is_none() || head.validator != self.validator) {
            self.web.note("the file on the server may be another one now; starting over");
            self.start_over()?;
        }
        self.validator = head.validator.clone();
        Ok(self.got)
    }

    fn check_size(&self, found: u64) -> Result<(), HttpError> {
        match self.size {
            ExpectedSize::Exactly(expected) if found != expected => Err(HttpError::Size { expected, found }),
            ExpectedSize::AtMost(most) if found > most => Err(HttpError::TooLarge { most }),
            _ => Ok(()),
        }
    }

    /// Reads the body into the sink, without its first `skip` bytes.
    fn receive(&mut self, mut connection: HttpConnection, mut skip: u64) -> Result<(), HttpError> {
        loop {
            let piece = connection.next_piece()?;
            if piece.is_empty() {
                break;
            }
            let known = piece.len().min(usize::try_from(skip).unwrap_or(usize::MAX));
            skip -= known as u64;
            let new = piece.get(known..).unwrap_or_default();
            let most = match self.size {
                ExpectedSize::Exactly(size) | ExpectedSize::AtMost(size) => size,
            };
            if new.len() as u64 > most - self.got {
                return Err(HttpError::TooLarge { most });
            }
            self.sink.put(new).map_err(HttpError::Store)?;
            self.got += new.len() as u64;
        }
        match self.size {
            ExpectedSize::Exactly(expected) if self.got < expected => Err(HttpError::Closed),
            _ => Ok(()),
        }
    }

    fn start_over(&mut self) -> Result<(), HttpError> {
        (self.got, self.validator) = (0, None);
        self.sink.start_over().map_err(HttpError::Store)
    }
}

/// The Host header: the host, with the port unless it is the default of the scheme (RFC 9110 section 7.2).
fn host_header(place: &Http) -> String {
    let usual = if place.tls { 443 } else { 80 };
    let host = place.host.to_string();
    if place.port == usual { host } else { [&host[..], ":", &place.port.to_string()].concat() }
}

/// The place that a redirect leads to: another URL, or another path on the same server. A redirect from https to http
/// is refused.
fn redirect(place: &Http, location: &str) -> Result<Http, HttpError> {
    let bad = || HttpError::Location(location.into());
    if location.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Err(bad());
    }
    if location.starts_with('/') && !location.starts_with("//") {
        return Ok(Http { path: location.into(), ..place.clone() });
    }
    match parse_source(location) {
        Ok(Source::Http(to)) if to.tls || !place.tls => Ok(to),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_on_but_not_out_of_tls() {
        let place = |text: &str| match parse_source(text) {
            Ok(Source::Http(http)) => http,
            other => panic!("{other:?}"),
        };
        let (plain, tls) = (place("http://a:81/x"), place("https://a/x"));
        assert_eq!(redirect(&plain, "/y").expect("good"), place("http://a:81/y"));
        assert_eq!(redirect(&plain, "https://b/y").expect("good"), place("https://b/y"));
        for (from, to) in [
            (&tls, "http://b/y"),
            (&plain, "ftp://b/y"),
            (&plain, "//b/y"),
            (&plain, "y"),
            (&plain, "/a\r\nX: y"),
            (&plain, "ram"),
        ] {
            assert!(redirect(from, to).is_err(), "{to}");
        }
        assert_eq!((host_header(&plain), host_header(&tls)), ("a:81".into(), "a".into()));
    }
}
