//! Finds out whether a service is ready.

use super::Millis;
use bootwright_base::background;
use bootwright_base::channel::Sender;
use bootwright_base::wake::Waker;
use bootwright_contract::Ready;
use bootwright_roots::http;
use bootwright_roots::http::message::format_request;
use nix::errno::Errno;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Pause between two questions, in milliseconds.
pub const INTERVAL_MS: Millis = 50;
/// Limit for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks whether one service is ready, by a thread that runs while there is something to ask. The thread may hang on a
/// file or socket of the root. There is never a second one: it goes on when the root is back.
pub struct Probe(Arc<ProbeShared>);

struct ProbeShared {
    ready: Ready,
    results: Sender<u64>,
    waker: Waker,
    asked: Mutex<ProbeTask>,
}

#[derive(Default)]
struct ProbeTask {
    /// Number of the start of the service that is asked about; `None`: nothing is asked.
    ticket: Option<u64>,
    has_thread: bool,
}

impl Probe {
    /// When the service is ready, sends the ticket of [`Probe::ask`] to `results` and wakes the main loop.
    pub fn new(ready: &Ready, results: &Sender<u64>, waker: &Waker) -> Probe {
        let (ready, results, waker) = (ready.clone(), results.clone(), waker.clone());
        Probe(Arc::new(ProbeShared { ready, results, waker, asked: Mutex::default() }))
    }

    /// Asks until the service is ready, another start is asked about, or [`Probe::stop`] is called.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn ask(&self, ticket: u64) -> io::Result<()> {
        let mut asked = self.0.asked();
        asked.ticket = Some(ticket);
        if !asked.has_thread {
            let question = self.0.clone();
            background::spawn_small("probe", 64 << 10, Box::new(move || question.run()))?;
            asked.has_thread = true;
        }
        Ok(())
    }

    pub fn stop(&self) {
        self.0.asked().ticket = None;
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop();
    }
}

impl ProbeShared {
    fn run(&self) {
        while let Some(ticket) = self.next() {
            if !is_ready(&self.ready) {
                std::thread::sleep(Duration::from_millis(INTERVAL_MS));
                continue;
            }
            let mut asked = self.asked();
            // Otherwise the answer is about a process that has ended.
            if asked.ticket == Some(ticket) {
                asked.ticket = None;
                // The receiver is only gone when the machine goes down.
                let _ = self.results.send(ticket);
                self.waker.wake();
            }
        }
    }

    /// The ticket to ask about. `None` ends the thread.
    fn next(&self) -> Option<u64> {
        let mut asked = self.asked();
        asked.has_thread = asked.ticket.is_some();
        asked.ticket
    }

    fn asked(&self) -> MutexGuard<'_, ProbeTask> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks once. The supervisor itself decides about `Started`, `Exited` and `Exec`.
fn is_ready(ready: &Ready) -> bool {
    match ready {
        Ready::Unix { path } => unix_accepts(path),
        Ready::Http { url } => http_answers(url).unwrap_or(false),
        Ready::File { path } => Path::new(path).exists(),
        Ready::Started | Ready::Exited | Ready::Exec { .. } => false,
    }
}

/// Whether a unix socket accepts connections. Does not wait for a place in its queue.
fn unix_accepts(path: &str) -> bool {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    use std::os::fd::AsRawFd;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let Ok(fd) = socket(AddressFamily::Unix, SockType::Stream, flags, None) else { return false };
    let Ok(address) = UnixAddr::new(path) else { return false };
    // EAGAIN: somebody listens, and the queue is full.
    matches!(connect(fd.as_raw_fd(), &address), Ok(()) | Err(Errno::EAGAIN))
}

/// Whether a GET is answered with status 200. `None` without an answer in HTTP.
fn http_answers(url: &str) -> Option<bool> {
    let (address, host, path) = parse_url(url)?;
    let stream = http::connect(address, ANSWER_TIMEOUT, ANSWER_TIMEOUT).ok()?;
    Some(http::exchange(stream, &format_request(host, path, 0, None)).ok()? == 200)
}

/// Splits `http://<IPv4 or localhost>[:port][/path]` into address, host and path.
fn parse_url(url: &str) -> Option<(SocketAddr, &str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, port.parse().ok()?),
        None => (host, 80),
    };
    let address = if name == "localhost" { Ipv4Addr::LOCALHOST } else { name.parse().ok()? };
    Some((SocketAddr::V4(SocketAddrV4::new(address, port)), host, path))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Folder;
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    #[test]
    fn urls() {
        for (url, expected) in [
            ("http://127.0.0.1:10248/healthz", Some(("127.0.0.1:10248", "127.0.0.1:10248", "/healthz"))),
            ("http://localhost", Some(("127.0.0.1:80", "localhost", "/"))),
            ("https://127.0.0.1/", None),
            ("http://example.org/", None),
            ("http://127.0.0.1:x/", None),
        ] {
            let expected = expected.map(|(address, host, path)| (address.parse().expect("an address"), host, path));
            assert_eq!(parse_url(url), expected, "{url}");
        }
    }

    #[test]
    fn http_wants_exactly_200() {
        for (answer, ready) in [
            ("HTTP/1.1 200 OK\r\n\r\nok", true),
            ("HTTP/1.0 200\r\n\r\n", true),
            ("HTTP/1.1 500 Internal Server Error\r\n\r\n", false),
            ("HTTP/1.1 2000 x\r\n\r\n", false),
            ("SSH-2.0-dropbear\r\n", false),
            ("", false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let url = format!("http://{}/x", listener.local_addr().expect("bound"));
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut request = [0; 512];
                let length = stream.read(&mut request).expect("a request");
                stream.write_all(answer.as_bytes()).expect("a reader");
                String::from_utf8_lossy(&request[..length]).into_owned()
            });
            assert_eq!(is_ready(&Ready::Http { url }), ready, "{answer:?}");
            assert!(server.join().expect("server").starts_with("GET /x HTTP/1.1\r\nHost: 127.0.0.1:"));
        }
        let closed = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
        assert!(!is_ready(&Ready::Http { url: format!("http://{closed}/") }));
    }

    #[test]
    fn a_socket_must_accept_and_a_file_must_exist() {
        let folder = Folder::new("probe");
        let path = folder.0.join("s").to_str().expect("UTF-8").to_string();
        let (unix, file) = (Ready::Unix { path: path.clone() }, Ready::File { path: path.clone() });
        assert!(!is_ready(&unix) && !is_ready(&file));
        let listener = UnixListener::bind(&path).expect("free");
        assert!(is_ready(&unix) && is_ready(&file));
        drop(listener);
        assert!(!is_ready(&unix), "a stale socket");
    }
}
