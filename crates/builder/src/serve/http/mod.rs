//! The one HTTP server: a folder with Range, ETag and If-Range, and whatever routes it is given, each within bounds.
//!
//! One thread has all connections and waits for none of them; disks and what takes long have threads of their own. No client can
//! take what others need: connections are bounded in all and by client ([`SlotPool`]), each has to ask in [`HEAD_TIME`] and to take its
//! answer at [`LEAST_RATE`], and a route bounds bodies, time, and requests ([`Bounds`]).

mod client;
mod connection;
mod fetch;
mod folder;
mod pace;
mod route;
mod slots;

pub use client::{Client, KnownClients};
pub use fetch::{Fetch, OnFetch};
pub use folder::{Folder, LAYOUTS_FOLDER, Shelf};
pub use route::{Bounds, Route};
pub use slots::SlotLimits;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::Method;
use axum::http::header::{ETAG, IF_RANGE, RANGE};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use connection::{Connection, Counted};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use route::{Gate, HeldBody, pass};
use slots::SlotPool;
use socket2::SockRef;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tower::ServiceExt;
use tower_http::services::ServeDir;

/// Connections at the same time: in all, and by client. A rack behind one NAT is one client.
const CONNECTIONS: SlotLimits = SlotLimits { all: 1024, by_client: 128 };
/// File descriptors that are not for connections.
const OTHER_FILES: u64 = 128;
/// In which a client has to ask for something, after it came and after each answer.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// Bytes a second that a client has to take of what is there for it, over [`PATIENCE`]: what took an hour for a small image would be
/// no boot.
pub const LEAST_RATE: u64 = 16 << 10;
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a connection that are held here, in each of a few buffers: what is not sent yet, and the head of a request.
const BUFFER: usize = 16 << 10;
/// Bytes that the kernel holds for a connection beyond those that are on their way (tcp(7), `TCP_NOTSENT_LOWAT`).
const UNSENT: u32 = 64 << 10;
/// Threads that wait for disks.
const DISK_THREADS: usize = 16;
/// Before the next client is asked in, when one could not be.
const PAUSE: Duration = Duration::from_millis(50);

/// Files: loaders fetch a few, PID1 resumes what was cut off; answers take as long as they are large.
pub const FILES: Bounds =
    Bounds { body: 0, time: Duration::from_secs(60), at_once: CONNECTIONS, per_s: 200, stroke: 1000 };

/// A running server; it ends on drop.
#[derive(Debug)]
pub struct HttpServer {
    pub port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What is served.
pub struct Site {
    pub folder: Folder,
    pub routes: Vec<Route>,
    /// Whose places strangers never take.
    pub known: KnownClients,
    pub on_fetch: OnFetch,
}

impl Site {
    fn router(self) -> Router {
        let files = files(self.folder).layer(from_fn_with_state(Gate::new(FILES, &self.known), pass));
        let routes = self.routes.into_iter().fold(Router::new(), |router, route| route.add(router, &self.known));
        let on_fetch = self.on_fetch;
        routes.fallback_service(files).layer(from_fn(move |request, next| fetch::tell(on_fetch.clone(), request, next)))
    }
}

/// The files of a folder, without bounds.
pub fn files(folder: Folder) -> Router {
    let files = ServeDir::with_backend("", folder).append_index_html_on_directories(false).with_buf_chunk_size(BUFFER);
    Router::new().fallback_service(files).layer(from_fn(ranges))
}

impl HttpServer {
    /// Serves `folder` on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// Those of [`Folder::check`], and of opening the port.
    pub fn start(folder: Folder, on_fetch: OnFetch) -> std::io::Result<Self> {
        let site = Site { folder, routes: Vec::new(), known: KnownClients::default(), on_fetch };
        site.folder.check()?;
        Self::listen((Ipv4Addr::LOCALHOST, 0).into(), site)
    }

    /// Serves `site`, whose folder was [checked](Folder::check).
    ///
    /// # Errors
    /// Those of opening the port.
    pub fn listen(address: SocketAddr, site: Site) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        // Those that wait to be asked in: a rack comes all at once.
        SockRef::from(&listener).listen(i32::from(u16::MAX))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let limits = SlotLimits { all: CONNECTIONS.all.min(room_for_files()), ..CONNECTIONS };
        let places = SlotPool::new(limits, site.known.clone());
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_io().enable_time().max_blocking_threads(DISK_THREADS).build()?;
        let (stop, stopped) = oneshot::channel();
        let app = site.router();
        let thread = std::thread::spawn(move || {
            runtime.spawn(press(places.clone()));
            runtime.spawn(async {
                // Without a listener nobody is served, and clients report the failure.
                if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                    accept(listener, places, app).await;
                }
            });
            // Dropping the sender is the signal; connections that are still open end with the runtime.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        });
        Ok(Self { port, stop: Some(stop), thread: Some(thread) })
    }
}

/// For how many connections this process may open files, after it has asked for as many as it needs: each takes a socket and a file.
fn room_for_files() -> usize {
    let wanted = 2 * CONNECTIONS.all as u64 + OTHER_FILES;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return CONNECTIONS.all };
    let raised = soft.max(wanted.min(hard));
    let has = match setrlimit(Resource::RLIMIT_NOFILE, raised, hard) {
        Ok(()) => raised,
        Err(_) => soft,
    };
    usize::try_from(has.saturating_sub(OTHER_FILES) / 2).unwrap_or(CONNECTIONS.all).max(1)
}

/// Ends connections that are too slow, for ever.
async fn press(places: SlotPool) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        places.press(LEAST_RATE, PATIENCE);
    }
}

/// Asks clients in, for ever.
async fn accept(listener: tokio::net::TcpListener, places: SlotPool, app: Router) {
    loop {
        let Ok((stream, client)) = listener.accept().await else {
            // No file descriptor is free, or the client has gone again.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let connection = Arc::new(Connection::new(Client::of(client.ip())));
        // Where nobody makes room, the connection ends here.
        if let Some(place) = places.enter(&connection, Instant::now()) {
            let app = app.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = answer(stream, client, connection.clone(), app) => {}
                    () = connection.ended() => {}
                }
                drop(place);
            });
        }
        // The newcomer may ask before another one takes its place.
        tokio::task::yield_now().await;
    }
}

/// Answers all requests of a connection. Header names are written as `Content-Length`: GRUB 2.06 finds them in no other case (its
/// `net/http.c`), and waits for the end of the connection then.
async fn answer(stream: TcpStream, client: SocketAddr, connection: Arc<Connection>, app: Router) {
    // A kernel that does not know it holds more for each connection.
    let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
    let stream = TokioIo::new(Counted { stream, connection: connection.clone() });
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(client));
        request.extensions_mut().insert(connection.clone());
        let asked = BusyMark::new(connection.clone());
        let response = app.clone().oneshot(request);
        async move { response.await.map(|response| response.map(|body| HeldBody::body(body, asked))) }
    });
    let mut server = http1::Builder::new();
    server.title_case_headers(true).timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(BUFFER);
    // What goes wrong with it is the client's to tell.
    drop(server.serve_connection(stream, service).await);
}

/// Marks a connection as one whose request is being answered, until the answer was taken.
struct BusyMark(Arc<Connection>);

impl BusyMark {
    fn new(connection: Arc<Connection>) -> Self {
        connection.set_asked(true);
        Self(connection)
    }
}

impl Drop for BusyMark {
    fn drop(&mut self) {
        self.0.set_asked(false);
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the server's thread was printed there; nothing depends on it any more.
            let _ = thread.join();
        }
    }
}

/// If-Range (RFC 9110 section 13.1.5), which `ServeDir` does not know: a range of a file that has changed since is answered with
/// the whole file. Only a strong ETag that is the same lets the range stand.
///
/// A range that `ServeDir` would refuse although it asks for no bytes in the way that RFC 9110 section 14.1.2 knows is left out, as
/// section 14.2 wants it.
async fn ranges(mut request: Request, next: Next) -> Response {
    if request.headers().get(RANGE).is_some_and(|range| !is_byte_ranges(range.as_bytes())) {
        request.headers_mut().remove(RANGE);
    }
    let Some(wanted) = request.headers_mut().remove(IF_RANGE) else { return next.run(request).await };
    let mut head = Request::new(Body::empty());
    (*head.method_mut(), *head.uri_mut()) = (Method::HEAD, request.uri().clone());
    let now = next.clone().run(head).await;
    if now.headers().get(ETAG) != Some(&wanted) {
        request.headers_mut().remove(RANGE);
    }
    next.run(request).await
}

/// `bytes=2-4,7-,-3`, with numbers that a file's size may be.
fn is_byte_ranges(range: &[u8]) -> bool {
    let Some(set) = std::str::from_utf8(range).ok().and_then(|range| range.strip_prefix("bytes=")) else {
        return false;
    };
    let number =
        |text: &str| text.is_empty() || text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u64>().is_ok();
    set.split(',').all(|one| one.trim().split_once('-').is_some_and(|(first, last)| number(first) && number(last)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::Mutex;

    fn ask(port: u16, request: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.write_all(format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
        answer
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)))
            .map(|(_, v)| v)
    }

    #[test]
    fn files_ranges_and_what_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        let file = dir.path().join("out/vmlinuz");
        std::fs::write(&file, "0123456789").unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = log.clone();
        let on_fetch: OnFetch = Arc::new(move |fetch| sink.lock().unwrap().push(fetch.to_string()));
        let folder = Folder::new(&dir.path().join("out"), Shelf::Image);
        let server = HttpServer::start(folder, on_fetch).unwrap();
        let whole = ask(server.port, "GET /vmlinuz HTTP/1.1");
        assert!(whole.starts_with("HTTP/1.1 200") && whole.ends_with("0123456789"), "{whole}");
        let part = ask(server.port, "GET /vmlinuz HTTP/1.1\r\nRange: bytes=2-4");
        assert!(part.starts_with("HTTP/1.1 206") && part.ends_with("\r\n234"), "{part}");
        for odd in ["lines=2-4", "bytes=2-99999999999999999999", "bytes=two-four", "bytes", "bytes=+2-4"] {
            let whole = ask(server.port, &format!("GET /vmlinuz HTTP/1.1\r\nRange: {odd}"));
            assert!(whole.starts_with("HTTP/1.1 200") && whole.ends_with("0123456789"), "{odd}: {whole}");
        }
        let tail = ask(server.port, "GET /vmlinuz HTTP/1.1\r\nRange: bytes=-3");
        assert!(tail.starts_with("HTTP/1.1 206") && tail.ends_with("\r\n789"), "{tail}");
        assert!(ask(server.port, "GET /../secret HTTP/1.1").starts_with("HTTP/1.1 404"));
        let head = ask(server.port, "HEAD /vmlinuz HTTP/1.1");
        assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
        assert_eq!(header(&head, "content-length"), Some("10"));
        assert!(head.contains("\r\nContent-Length: "), "GRUB knows it in no other case: {head}");

        let etag = header(&whole, "etag").expect("an ETag").to_string();
        let ranged =
            |etag: &str| ask(server.port, &format!("GET /vmlinuz HTTP/1.1\r\nRange: bytes=7-\r\nIf-Range: {etag}"));
        assert!(ranged(&etag).starts_with("HTTP/1.1 206"));
        assert!(
            ask(server.port, &format!("GET /vmlinuz HTTP/1.1\r\nIf-None-Match: {etag}")).starts_with("HTTP/1.1 304")
        );
        std::fs::write(&file, "abcdefghijk").unwrap();
        let changed = ranged(&etag);
        assert!(changed.starts_with("HTTP/1.1 200") && changed.ends_with("abcdefghijk"), "{changed}");
        assert!(ask(server.port, "GET /vmlinuz HTTP/1.1\r\nRange: bytes=99-").starts_with("HTTP/1.1 416"));
        drop(server);
        let log = log.lock().unwrap();
        assert_eq!(log[0], "GET /vmlinuz 200 10");
        assert_eq!(log[1], "GET /vmlinuz (bytes=2-4) 206 3");
    }
}
