//! What is told of a request: for the log, and for whoever wants to know how far a machine is.

use crate::serve::text::shown;
use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, HeaderName, RANGE};
use axum::middleware::Next;
use axum::response::Response;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Characters of a method, a path or a range that are told.
const MOST_SHOWN: usize = 200;

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
    /// `GET /vmlinuz 200 12171200`, `GET /vmlinuz (bytes=2-4) 206 3`. A client chooses what stands here, so it is made fit to be shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", shown(&self.method, MOST_SHOWN), shown(&self.path, MOST_SHOWN))?;
        if let Some(range) = &self.range {
            write!(f, " ({})", shown(range, MOST_SHOWN))?;
        }
        write!(f, " {}", self.status)?;
        match self.bytes {
            Some(bytes) => write!(f, " {bytes}"),
            None => f.write_str(" -"),
        }
    }
}

/// Is told of every fetch, on the thread that all connections share: it must not wait for anything.
pub type OnFetch = Arc<dyn Fn(&Fetch) + Send + Sync>;

/// The middleware that tells.
pub async fn tell(on_fetch: OnFetch, request: Request, next: Next) -> Response {
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

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_what_a_client_sent_and_obeys_none_of_it() {
        let mut fetch = Fetch {
            client: Ipv4Addr::LOCALHOST.into(),
            method: "GET".into(),
            path: "/a\u{9b}2J\u{202e}b".into(),
            range: Some("bytes=2-4".into()),
            status: 206,
            bytes: Some(3),
        };
        assert_eq!(fetch.to_string(), "GET /a\u{fffd}2J\u{fffd}b (bytes=2-4) 206 3");
        (fetch.path, fetch.range, fetch.bytes) = (format!("/{}", "x".repeat(10_000)), None, None);
        assert!(fetch.to_string().len() < 250, "{fetch}");
    }
}
