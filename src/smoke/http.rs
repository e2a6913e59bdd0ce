//! The HTTP server of a network boot: an image's folder on a loopback port, with Range, one log line a request.

use super::SmokeError;
use axum::Router;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, RANGE};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::oneshot;
use tower_http::services::ServeDir;

/// A running server; it ends on drop.
#[derive(Debug)]
pub struct HttpServer {
    /// Port on 127.0.0.1.
    pub port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Serves `dir` and writes a line a request to `log`: `GET /vmlinuz 200 12171200`.
    pub fn start(dir: &Path, log: std::fs::File) -> Result<Self, SmokeError> {
        let failed = |cause: std::io::Error| SmokeError::Server { cause };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let log = Arc::new(Mutex::new(log));
        let app = Router::new()
            .fallback_service(ServeDir::new(dir))
            .layer(from_fn(move |request, next| note(log.clone(), request, next)));
        let thread = std::thread::spawn(move || {
            runtime.spawn(async {
                if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                    // It serves for ever: an error could only come from the listener, and the guest then reports the failure.
                    let _ = axum::serve(listener, app).await;
                }
            });
            // Dropping the sender is the signal; connections that are still open end with the runtime.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        });
        Ok(Self { port, stop: Some(stop), thread: Some(thread) })
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

async fn note(log: Arc<Mutex<std::fs::File>>, request: Request, next: Next) -> Response {
    let range = request.headers().get(RANGE).and_then(|v| v.to_str().ok()).map(|r| format!(" ({r})"));
    let asked = format!("{} {}{}", request.method(), request.uri().path(), range.unwrap_or_default());
    let response = next.run(request).await;
    let length = response.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).unwrap_or("-");
    let line = format!("{asked} {} {length}\n", response.status().as_u16());
    if let Ok(mut log) = log.lock() {
        // The log is for people: a full disk must not stop the boot.
        let _ = log.write_all(line.as_bytes());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpStream;

    fn ask(port: u16, request: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.write_all(format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn files_ranges_and_what_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        std::fs::write(dir.path().join("out/vmlinuz"), "0123456789").unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        let log_path = dir.path().join("log");
        let server = HttpServer::start(&dir.path().join("out"), std::fs::File::create(&log_path).unwrap()).unwrap();
        let whole = ask(server.port, "GET /vmlinuz HTTP/1.1");
        assert!(whole.starts_with("HTTP/1.1 200") && whole.ends_with("0123456789"), "{whole}");
        let part = ask(server.port, "GET /vmlinuz HTTP/1.1\r\nRange: bytes=2-4");
        assert!(part.starts_with("HTTP/1.1 206") && part.ends_with("\r\n234"), "{part}");
        assert!(ask(server.port, "GET /../secret HTTP/1.1").starts_with("HTTP/1.1 404"));
        drop(server);
        let log = std::fs::read_to_string(log_path).unwrap();
        assert_eq!(log.lines().next(), Some("GET /vmlinuz 200 10"));
        assert!(log.contains("GET /vmlinuz (bytes=2-4) 206 3"), "{log}");
    }
}
