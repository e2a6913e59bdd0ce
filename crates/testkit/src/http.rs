//! An HTTP server on loopback that misbehaves as it is told, and remembers what it was asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How one request is answered.
#[derive(Debug, Clone)]
pub enum Step {
    /// The body, or the range of it that was asked for.
    Serve,
    /// The whole body, whatever range was asked for.
    IgnoreRange,
    /// So many bytes of what `Serve` would send, then the connection is closed.
    StopAfter(usize),
    /// So many bytes more than the body, without a length that would tell.
    TooMuch(usize),
    /// This body instead, without error.
    Other(Vec<u8>),
    Status(u16),
    Redirect(String),
    /// So many bytes, then nothing until the client gives up.
    StallAfter(usize),
    /// What `Serve` would send, a byte at a time with this pause behind each.
    #[allow(dead_code, reason = "not every suite that includes this file has slow servers")]
    Drip(Duration),
}

/// One request as it came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub path: String,
    /// The `Range` header's value.
    pub range: Option<String>,
    /// Bytes of body that were sent.
    pub sent: usize,
}

struct Page {
    body: Vec<u8>,
    /// Answered in turn; the last one stays.
    steps: Vec<Step>,
}

#[derive(Default)]
struct PageTable {
    pages: HashMap<String, Page>,
    asked: Vec<Asked>,
}

/// Serves until the test process ends.
pub struct PageServer {
    address: SocketAddr,
    state: Arc<Mutex<PageTable>>,
}

impl PageServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::<Mutex<PageTable>>::default();
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = shared.clone();
                // A client that goes away ends its thread with an error that nobody needs.
                std::thread::spawn(move || answer(client, &shared).ok());
            }
        });
        Self { address, state }
    }

    /// Answers requests for `path` by `steps` in turn; the last one stays. Returns the page's address.
    pub fn page(&self, path: &str, body: &[u8], steps: &[Step]) -> String {
        let page = Page { body: body.into(), steps: steps.to_vec() };
        self.state.lock().unwrap().pages.insert(path.into(), page);
        format!("http://{}{path}", self.address)
    }

    /// What was asked so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }
}

fn answer(mut client: TcpStream, state: &Mutex<PageTable>) -> std::io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(60)))?;
    let Some((path, range)) = read_request(&client)? else { return Ok(()) };
    let (at, body, step) = {
        let mut state = state.lock().unwrap();
        let at = state.asked.len();
        state.asked.push(Asked { path: path.clone(), range: range.clone(), sent: 0 });
        match state.pages.get_mut(&path) {
            None => (at, Vec::new(), Step::Status(404)),
            Some(page) if page.steps.len() > 1 => (at, page.body.clone(), page.steps.remove(0)),
            Some(page) => (at, page.body.clone(), page.steps.first().cloned().unwrap_or(Step::Serve)),
        }
    };
    let (head, body) = compose(body, &step, range.as_deref());
    // Noted before it is sent: a client that has it all may look at once.
    state.lock().unwrap().asked[at].sent = body.len();
    client.write_all(head.as_bytes())?;
    match step {
        Step::Drip(pause) => {
            for byte in body.chunks(1) {
                client.write_all(byte)?;
                std::thread::sleep(pause);
            }
        }
        _ => client.write_all(&body)?,
    }
    if matches!(step, Step::StallAfter(_)) {
        // Ends when the client closes the connection.
        std::io::copy(&mut client, &mut std::io::sink())?;
    }
    Ok(())
}

fn read_request(client: &TcpStream) -> std::io::Result<Option<(String, Option<String>)>> {
    let (mut path, mut range) = (None, None);
    for line in BufReader::new(client).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        match line.split_once(':') {
            _ if path.is_none() => path = line.split(' ').nth(1).map(String::from),
            Some((name, value)) if name.eq_ignore_ascii_case("range") => range = Some(value.trim().into()),
            _ => {}
        }
    }
    Ok(path.map(|path| (path, range)))
}

/// Head and body of an answer.
fn compose(mut body: Vec<u8>, step: &Step, range: Option<&str>) -> (String, Vec<u8>) {
    let size = body.len();
    let from = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()).unwrap_or(0);
    let from = if matches!(step, Step::Serve | Step::StopAfter(_) | Step::Drip(_)) { from } else { 0 };
    let empty =
        |status: &str| (format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), Vec::new());
    match step {
        Step::Status(status) => return empty(&format!("{status} Told So")),
        Step::Redirect(to) => return empty(&format!("302 Found\r\nLocation: {to}")),
        _ if from > 0 && from >= size => return empty("416 Too Far"),
        Step::Other(other) => body = other.clone(),
        Step::TooMuch(more) => body.resize(size + more, b'+'),
        _ => drop(body.drain(..from)),
    }
    let mut head = match from {
        0 => "HTTP/1.1 200 OK\r\n".to_string(),
        _ => format!("HTTP/1.1 206 Partial\r\nContent-Range: bytes {from}-{}/{size}\r\n", size - 1),
    };
    if !matches!(step, Step::TooMuch(_)) {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("Connection: close\r\n\r\n");
    if let Step::StopAfter(n) | Step::StallAfter(n) = step {
        body.truncate(*n);
    }
    (head, body)
}
