//! The one HTTP server: a folder with Range, ETag and If-Range, one log line a fetch, and whatever routes it is given.

use axum::extract::{ConnectInfo, Request};
use axum::http::header::{CONTENT_LENGTH, ETAG, IF_RANGE, RANGE};
use axum::http::{HeaderMap, Method};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use tower_http::services::ServeDir;

/// Before the next client is asked in, when one could not be.
const PAUSE: Duration = Duration::from_millis(50);

/// A request that was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetch {
    pub client: IpAddr,
    pub method: String,
    pub path: String,
    /// The `Range` header's value.
    pub range: Option<String>,
    pub status: u16,
    /// Of the answer's body.
    pub bytes: Option<u64>,
}

impl fmt::Display for Fetch {
    /// `GET /vmlinuz 200 12171200`, `GET /vmlinuz (bytes=2-4) 206 3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        if let Some(range) = &self.range {
            write!(f, " ({range})")?;
        }
        write!(f, " {}", self.status)?;
        match self.bytes {
            Some(bytes) => write!(f, " {bytes}"),
            None => f.write_str(" -"),
        }
    }
}

/// Is told of every fetch.
pub type OnFetch = Arc<dyn Fn(&Fetch) + Send + Sync>;

/// A running server; it ends on drop.
#[derive(Debug)]
pub struct HttpServer {
    pub port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Serves `dir` on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// Those of opening the port.
    pub fn start(dir: &Path, on_fetch: OnFetch) -> std::io::Result<Self> {
        Self::start_with((Ipv4Addr::LOCALHOST, 0).into(), dir, Router::new(), on_fetch)
    }

    /// Serves `dir` below `routes`.
    ///
    /// # Errors
    /// Those of opening the port.
    pub fn start_with(address: SocketAddr, dir: &Path, routes: Router, on_fetch: OnFetch) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let files = Router::new().fallback_service(ServeDir::new(dir)).layer(from_fn(if_range));
        let app =
            routes.fallback_service(files).layer(from_fn(move |request, next| note(on_fetch.clone(), request, next)));
        let thread = std::thread::spawn(move || {
            runtime.spawn(async {
                // Without a listener nobody is served, and clients report the failure.
                if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                    accept(listener, app).await;
                }
            });
            // Dropping the sender is the signal; connections that are still open end with the runtime.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        });
        Ok(Self { port, stop: Some(stop), thread: Some(thread) })
    }
}

/// Serves for ever. Header names are written as `Content-Length`: GRUB 2.06 finds them in no other case (its `net/http.c`), and waits
/// for the end of the connection then.
async fn accept(listener: tokio::net::TcpListener, app: Router) {
    loop {
        let Ok((stream, client)) = listener.accept().await else {
            // No file descriptor is free, or the client has gone again.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let app = TowerToHyperService::new(app.clone().layer(Extension(ConnectInfo(client))));
        let connection = http1::Builder::new().title_case_headers(true).serve_connection(TokioIo::new(stream), app);
        // What goes wrong with it is the client's to tell.
        tokio::spawn(async move { drop(connection.await) });
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
async fn if_range(mut request: Request, next: Next) -> Response {
    let Some(wanted) = request.headers_mut().remove(IF_RANGE) else { return next.run(request).await };
    let mut head = Request::new(axum::body::Body::empty());
    (*head.method_mut(), *head.uri_mut()) = (Method::HEAD, request.uri().clone());
    let now = next.clone().run(head).await;
    if now.headers().get(ETAG) != Some(&wanted) {
        request.headers_mut().remove(RANGE);
    }
    next.run(request).await
}

async fn note(on_fetch: OnFetch, request: Request, next: Next) -> Response {
    let client = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let mut fetch = Fetch {
        client: client.unwrap_or(Ipv4Addr::UNSPECIFIED.into()).to_canonical(),
        method: request.method().to_string(),
        path: request.uri().path().to_string(),
        range: text(request.headers(), RANGE).map(String::from),
        status: 0,
        bytes: None,
    };
    let response = next.run(request).await;
    fetch.status = response.status().as_u16();
    fetch.bytes = text(response.headers(), CONTENT_LENGTH).and_then(|length| length.parse().ok());
    on_fetch(&fetch);
    response
}

fn text(headers: &HeaderMap, name: axum::http::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
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
        let server = HttpServer::start(&dir.path().join("out"), on_fetch).unwrap();
        let whole = ask(server.port, "GET /vmlinuz HTTP/1.1");
        assert!(whole.starts_with("HTTP/1.1 200") && whole.ends_with("0123456789"), "{whole}");
        let part = ask(server.port, "GET /vmlinuz HTTP/1.1\r\nRange: bytes=2-4");
        assert!(part.starts_with("HTTP/1.1 206") && part.ends_with("\r\n234"), "{part}");
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
