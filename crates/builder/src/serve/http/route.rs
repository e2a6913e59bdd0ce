//! What a route may cost: the bounds that every request passes before it is answered.

use super::client::KnownClients;
use super::connection::Connection;
use super::pace::Pace;
use super::slots::{SlotLimits, SlotPool};
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use hyper::body::{Frame, SizeHint};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Of a body that is too large so much is read and thrown away, so that its sender gets to read the answer.
const THROWN_AWAY: usize = 256 << 10;

/// The bounds of a route. How slowly an answer may be taken is the same for all, see [`super::LEAST_RATE`].
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Largest body of a request, bytes.
    pub body: usize,
    /// In which the body has come and the answer begins.
    pub time: Duration,
    /// Requests that are answered at the same time; an answer goes on until its client has taken it.
    pub at_once: SlotLimits,
    /// Requests a second by client.
    pub per_s: u32,
    /// Requests at a stroke by client.
    pub stroke: u32,
}

/// A path with its bounds and its answer; whatever is served beside files is a row of these.
#[derive(Debug)]
pub struct Route {
    pub path: String,
    pub bounds: Bounds,
    pub answer: MethodRouter,
}

impl Route {
    /// Adds it to `router`.
    pub fn add(self, router: Router, known: &KnownClients) -> Router {
        let gate = Gate::new(self.bounds, known);
        router.route(&self.path, self.answer.layer(from_fn_with_state(gate, pass)))
    }
}

/// Keeps what passes it within bounds.
#[derive(Debug)]
pub struct Gate {
    bounds: Bounds,
    places: SlotPool,
    pace: Mutex<Pace>,
}

impl Gate {
    pub fn new(bounds: Bounds, known: &KnownClients) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            places: SlotPool::new(bounds.at_once, known.clone()),
            pace: Mutex::new(Pace::new(bounds.per_s, bounds.stroke)),
        })
    }
}

/// The middleware.
pub async fn pass(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    // The server gives it to every request; without it nobody could be told from another.
    let Some(connection) = request.extensions().get::<Arc<Connection>>().cloned() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let now = Instant::now();
    if !gate.pace.lock().unwrap_or_else(PoisonError::into_inner).allows(connection.client, now) {
        return refuse(StatusCode::TOO_MANY_REQUESTS);
    }
    let Some(place) = gate.places.enter(&connection, now) else { return refuse(StatusCode::SERVICE_UNAVAILABLE) };
    let deadline = now + gate.bounds.time;
    let body = std::mem::take(request.body_mut());
    let response = match read(body, gate.bounds.body, deadline).await {
        Err(status) => refuse(status),
        Ok(bytes) => {
            *request.body_mut() = Body::from(bytes);
            let answer = tokio::time::timeout_at(deadline.into(), next.run(request)).await;
            answer.unwrap_or_else(|_| refuse(StatusCode::SERVICE_UNAVAILABLE))
        }
    };
    response.map(|body| HeldBody::body(body, place))
}

/// Without a body, and the connection ends with it.
fn refuse(status: StatusCode) -> Response {
    let mut response = status.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A request's body, at most `most` bytes. One that is larger, or says so beforehand, is refused as that, however slowly it comes.
async fn read(body: Body, most: usize, deadline: Instant) -> Result<Bytes, StatusCode> {
    let too_large = body.size_hint().lower() > most as u64;
    let (mut body, mut bytes, mut thrown_away) = (pin!(body), Vec::new(), 0);
    loop {
        let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx));
        let Ok(frame) = tokio::time::timeout_at(deadline.into(), frame).await else {
            let slow = !too_large && thrown_away == 0;
            return Err(if slow { StatusCode::REQUEST_TIMEOUT } else { StatusCode::PAYLOAD_TOO_LARGE });
        };
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| StatusCode::BAD_REQUEST)?.into_data() else { continue };
        if thrown_away == 0 && bytes.len() + data.len() <= most {
            bytes.extend_from_slice(&data);
            continue;
        }
        thrown_away += data.len().max(1);
        bytes = Vec::new();
        if thrown_away > most + THROWN_AWAY {
            break;
        }
    }
    if thrown_away > 0 { Err(StatusCode::PAYLOAD_TOO_LARGE) } else { Ok(bytes.into()) }
}

/// An answer's body that keeps something until it was taken, or nobody takes it any more.
#[derive(Debug)]
pub struct HeldBody<T> {
    body: Body,
    held: Option<T>,
}

impl<T: Send + Unpin + 'static> HeldBody<T> {
    pub fn body(body: Body, held: T) -> Body {
        Body::new(Self { body, held: Some(held) })
    }
}

impl<T: Unpin> HttpBody for HeldBody<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(poll, Poll::Ready(None)) {
            self.held = None;
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
