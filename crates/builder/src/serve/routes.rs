//! What `serve` answers beside files: a table of routes with what each may cost.

use super::http::{Bounds, FILES, KnownClients, Route, SlotLimits};
use super::registry::Registry;
use super::state::{BadReport, ReadReport};
use super::status::SharedStatus;
use crate::chain::{LOADERS, LOADERS_FOLDER};
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get, get_service, post};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tower_http::services::ServeFile;

const PAGE: &str = include_str!("page.html");
/// What the page may do: run its own script, and ask this server.
const POLICY: &str =
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:";
const REPORT: &str = "/report";

/// Of each client, whatever it asks for: a browser, or a node that starts.
const FEW: SlotLimits = SlotLimits { all: 64, by_client: 8 };

/// The table. Bodies in flight take at most `all` times `body` bytes of a route.
pub fn table(lab: &Arc<SharedStatus>, known: &KnownClients, loaders: &Path, registry: &Arc<Registry>) -> Vec<Route> {
    let second = Duration::from_secs;
    let reports = Reports { lab: lab.clone(), known: known.clone(), reading: Arc::new(Semaphore::new(1)) };
    let page = get(|| async { headers(Html(PAGE).into_response(), &[(CONTENT_SECURITY_POLICY, POLICY)]) });
    let route = |path: &str, bounds, answer: MethodRouter| Route { path: path.into(), bounds, answer };
    let mut rows = vec![
        route("/", Bounds { body: 0, time: second(5), at_once: FEW, per_s: 20, stroke: 100 }, page),
        route(
            "/status.json",
            // A slow reader holds a whole document.
            Bounds { body: 0, time: second(20), at_once: SlotLimits { all: 16, by_client: 4 }, per_s: 20, stroke: 100 },
            get(status).with_state(lab.clone()),
        ),
        route(
            REPORT,
            // A timeline of many services is a few kB; a rack behind one NAT reports twice a second and node while it boots.
            Bounds {
                body: 256 << 10,
                time: second(20),
                at_once: SlotLimits { all: 24, by_client: 8 },
                per_s: 100,
                stroke: 400,
            },
            post(report).with_state(reports),
        ),
    ];
    // Blobs are files like others.
    rows.extend(["/v2/", "/v2/{*path}"].map(|path| route(path, FILES, registry.routes())));
    // Firmware that loads by HTTP gets iPXE here.
    rows.extend(LOADERS.iter().map(|name| {
        let bounds = Bounds { body: 0, time: second(20), at_once: FEW, per_s: 20, stroke: 100 };
        let file = get_service(ServeFile::new(loaders.join(name)));
        route(&format!("/{LOADERS_FOLDER}/{name}"), bounds, file)
    }));
    rows
}

fn headers(mut response: Response, set: &[(HeaderName, &'static str)]) -> Response {
    for (name, value) in set {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn status(State(lab): State<Arc<SharedStatus>>) -> Response {
    match lab.document().await {
        Some(text) => headers(text.into_response(), &[(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")]),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// What taking a report needs.
#[derive(Debug, Clone)]
struct Reports {
    lab: Arc<SharedStatus>,
    known: KnownClients,
    /// One is read at a time: it takes many times its size.
    reading: Arc<Semaphore>,
}

async fn report(
    State(reports): State<Reports>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    body: Bytes,
) -> (StatusCode, String) {
    let Ok(turn) = reports.reading.clone().acquire_owned().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, String::new());
    };
    let take = move || {
        let told = ReadReport::parse(&body)?;
        drop(turn);
        let mut nodes = reports.lab.nodes();
        nodes.reported(told, client.ip().to_canonical(), Instant::now())?;
        reports.known.set(nodes.clients());
        Ok::<(), BadReport>(())
    };
    match tokio::task::spawn_blocking(take).await {
        Ok(Ok(())) => (StatusCode::NO_CONTENT, String::new()),
        Ok(Err(e @ BadReport::NotItsAddress { .. })) => (StatusCode::CONFLICT, format!("{e}\n")),
        Ok(Err(e)) => (StatusCode::BAD_REQUEST, format!("{e}\n")),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
    }
}
