//! Downloads from web servers, and short requests to them.

pub mod connection;
mod download;
pub mod message;
pub mod pace;
#[cfg(test)]
mod tests;
mod tls;

use super::attach_context::{NetrootError, addresses};
use super::context::RootContext;
use super::source::{Host, Http, Source};
use connection::{HttpConnection, Stream};
pub use download::{ExpectedSize, Sink, get};
use message::HeadError;
use pace::{Pace, Rate};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long TLS waits until the clock is set.
const CLOCK_WAIT: Duration = Duration::from_secs(20);
/// A connection on which no byte comes for so long is given up.
const SILENCE: Duration = Duration::from_secs(15);

/// Why a download failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error(transparent)]
    Server(#[from] NetrootError),
    #[error("cannot reach {address}: {cause}")]
    Connect { address: SocketAddr, cause: io::Error },
    #[error("this image has no program for https: its recipe must ask for it")]
    NoTls,
    #[error("no TLS connection to {address}: {cause}")]
    Tls { address: SocketAddr, cause: String },
    #[error("the server's certificate is not good: {0}")]
    Certificate(String),
    #[error("the connection broke: {0}")]
    Broken(#[source] io::Error),
    #[error("the server closed the connection before the end")]
    Closed,
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error("the server's answer is too long")]
    TooLong,
    #[error("the server's chunks make no sense")]
    Chunk,
    #[error("the server answered {status}{}", meaning(*status))]
    Status { status: u16 },
    #[error("the server sent another part than was asked for")]
    Range,
    #[error("more than 5 redirects")]
    Redirects,
    #[error("a redirect leads to `{0}`")]
    Location(String),
    #[error("the server has a file of {found} bytes, the root image has {expected}")]
    Size { expected: u64, found: u64 },
    #[error("the file has more than {most} bytes")]
    TooLarge { most: u64 },
    #[error("only {bytes} bytes came in {seconds} s; another place is tried")]
    Slow { bytes: u64, seconds: u64 },
    #[error("cannot keep it in memory: {0}")]
    Store(#[source] io::Error),
}

fn meaning(status: u16) -> &'static str {
    match status {
        401 | 403 => " (not allowed)",
        404 => " (not found)",
        _ => "",
    }
}

impl HttpError {
    /// Whether another attempt cannot succeed.
    fn is_final(&self) -> bool {
        match self {
            HttpError::Status { status } => (400..500).contains(status) && ![408, 416, 429].contains(status),
            HttpError::Location(_)
            | HttpError::Redirects
            | HttpError::NoTls
            | HttpError::Slow { .. }
            | HttpError::Store(_)
            | HttpError::Certificate(_) => true,
            HttpError::Size { .. } | HttpError::TooLarge { .. } | HttpError::Head(HeadError::NotHttp) => true,
            _ => false,
        }
    }
}

/// Opens connections to web servers.
pub trait HttpConnector {
    /// Opens a connection to the server of `place`.
    fn open(&self, place: &Http) -> Result<Box<dyn Stream>, HttpError>;
    /// Writes a line for people.
    fn note(&self, text: &str);
    /// How long a download may go on without a byte.
    fn patience(&self, usual: Duration) -> Duration {
        usual
    }
    /// The rate below which a download is given up; `None` when there is no other place to get the file from.
    fn least_rate(&self) -> Option<Rate> {
        None
    }
}

impl HttpConnector for RootContext<'_> {
    fn open(&self, place: &Http) -> Result<Box<dyn Stream>, HttpError> {
        if place.tls && !tls::is_there() {
            return Err(HttpError::NoTls);
        }
        if place.tls {
            // Certificates are valid only with the right time. If nobody sets the clock, TLS is tried as it is.
            self.node.await_clock(CLOCK_WAIT);
        }
        let mut outcome = None;
        for address in addresses(self, &place.host, &Source::Http(place.clone()).to_string())? {
            let address = SocketAddr::new(address, place.port);
            let stream = match place.tls {
                true => tls::connect(address, &server_name(&place.host, address)).map(boxed),
                false => connect(address, CONNECT_TIMEOUT, SILENCE).map(boxed),
            };
            match stream {
                Ok(stream) => return Ok(stream),
                Err(error) => outcome = Some(error),
            }
        }
        // There is at least one address: an empty list is an error before.
        Err(outcome.unwrap_or(HttpError::Closed))
    }

    fn note(&self, text: &str) {
        self.journal.note(text);
    }

    fn least_rate(&self) -> Option<Rate> {
        self.elsewhere.then(Rate::default)
    }
}

fn boxed<S: Stream + 'static>(stream: S) -> Box<dyn Stream> {
    Box::new(stream)
}

/// The name that the server's certificate must have: its host name, or its address without port and brackets.
fn server_name(host: &Host, address: SocketAddr) -> String {
    match host {
        Host::Name(name) => name.clone(),
        Host::BootServer | Host::Address(_) => address.ip().to_string(),
    }
}

/// Connects. `silence`: reads fail when no byte comes for so long.
pub fn connect(address: SocketAddr, connect: Duration, silence: Duration) -> Result<TcpStream, HttpError> {
    let failed = |cause| HttpError::Connect { address, cause };
    let stream = TcpStream::connect_timeout(&address, connect).map_err(failed)?;
    stream.set_read_timeout(Some(silence)).map_err(failed)?;
    stream.set_write_timeout(Some(silence)).map_err(failed)?;
    Ok(stream)
}

/// Sends one request and returns the status of the answer; the body is not read.
///
/// # Errors
/// [`HttpError`]
pub fn exchange(stream: TcpStream, request: &str) -> Result<u16, HttpError> {
    Ok(HttpConnection::ask(Box::new(stream), request, Rc::new(Pace::new(None)))?.0.status)
}
