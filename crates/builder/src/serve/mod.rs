//! `bootwright serve`: a lab's boot server. HTTP for images and boot chain, dnsmasq for DHCP and TFTP, and a page that shows
//! images and nodes.

mod dnsmasq;
mod error;
mod http;
pub mod state;

pub use error::ServeError;
pub use http::{Fetch, HttpServer, OnFetch};
pub use state::{NodeView, PhaseView, ServiceView, Stage};

use crate::chain::{BootImage, FOLDER, LOADERS, LOADERS_FOLDER, Written, load_images};
use crate::interrupt::Interrupts;
use crate::nodes::{Dhcp, Nodes};
use crate::ui::Ui;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State as Shared};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use dnsmasq::Dnsmasq;
use serde::Serialize;
use state::State;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tower_http::services::ServeFile;

const PAGE: &str = include_str!("page.html");
/// What the page may do: run its own script, and ask this server.
const POLICY: &str =
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:";
/// Where Debian installs [`LOADERS`].
pub const LOADERS_PLACE: &str = "/usr/lib/ipxe";
/// A timeline of many services is a few kB.
const REPORT_BYTES: usize = 256 << 10;
/// How long a list of images is shown before it is read again.
const IMAGES_AGE: Duration = Duration::from_secs(5);
/// How often signals and dnsmasq are looked at.
const TICK: Duration = Duration::from_millis(100);

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    pub listen: SocketAddr,
    /// Folder of images.
    pub out: PathBuf,
    /// Folder with [`LOADERS`].
    pub loaders: PathBuf,
    /// Run dnsmasq if the boot chain says something about DHCP.
    pub dhcp: bool,
}

/// The document behind the page.
#[derive(Debug, Serialize)]
struct Status {
    /// Layout of this document; 1.
    version: u32,
    /// Under which address machines find this server, and who answers DHCP.
    server: String,
    images: Vec<ImageView>,
    nodes: Vec<NodeView>,
}

#[derive(Debug, Clone, Serialize)]
struct ImageView {
    name: String,
    recipe: String,
    summary: String,
    image_id: String,
    boot_bytes: u64,
}

/// What requests share.
struct Lab {
    out: PathBuf,
    server: String,
    nodes: Mutex<State>,
    images: Mutex<(Instant, Vec<ImageView>)>,
}

/// Serves until the user asks to end, or dnsmasq has ended.
pub fn serve(options: &ServeOptions, nodes: &Nodes, written: &Written, ui: Ui) -> Result<(), ServeError> {
    let interrupts = Interrupts::watch().map_err(|cause| ServeError::Signals { cause })?;
    let ui = Arc::new(ui);
    let answers_dhcp = options.dhcp && nodes.server.dhcp != Dhcp::None;
    let lab = Arc::new(Lab {
        out: options.out.clone(),
        server: describe(nodes, answers_dhcp),
        nodes: Mutex::new(State::new(&written.index)),
        images: Mutex::new((Instant::now(), views(&written.images))),
    });
    let address = options.listen;
    let server =
        HttpServer::start_with(address, &options.out, routes(lab.clone(), options), on_fetch(lab.clone(), ui.clone()));
    let server = server.map_err(|cause| ServeError::Listen { address, cause })?;
    ui.say(format_args!(
        "http://{}/ shows images and nodes; Ctrl-C ends it",
        SocketAddr::new(address.ip(), server.port)
    ));
    let config = written.dir.join("dnsmasq.conf");
    let mut dnsmasq = match answers_dhcp {
        true => Some(Dnsmasq::start(&config, &options.out, &options.loaders)?),
        false => None,
    };
    ui.say(&lab.server);
    while !interrupts.asked() {
        if let Some(dnsmasq) = &mut dnsmasq {
            match dnsmasq.check(&ui) {
                // The signal that ends us ended it too.
                Err(_) if interrupts.asked() => break,
                checked => checked?,
            }
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}

fn describe(nodes: &Nodes, answers_dhcp: bool) -> String {
    let url = match &nodes.server.url {
        Some(url) => format!("machines boot from {url}/{FOLDER}/boot.ipxe"),
        None => format!("machines boot from /{FOLDER}/boot.ipxe of this server"),
    };
    let dhcp = match &nodes.server.dhcp {
        _ if !answers_dhcp => "HTTP only: another server has to answer DHCP and TFTP".to_string(),
        Dhcp::Proxy(network) => format!("dnsmasq tells how to boot, beside the DHCP server of {network}"),
        Dhcp::Range(range) => format!("dnsmasq hands out {range}"),
        Dhcp::None => "no DHCP".to_string(),
    };
    format!("{url}; {dhcp}")
}

fn routes(lab: Arc<Lab>, options: &ServeOptions) -> Router {
    let own = Router::new()
        .route("/", get(|| async { headers(Html(PAGE).into_response(), &[(CONTENT_SECURITY_POLICY, POLICY)]) }))
        .route("/status.json", get(status))
        .route("/report", post(report).layer(DefaultBodyLimit::max(REPORT_BYTES)))
        .with_state(lab);
    // Firmware that loads by HTTP gets iPXE here.
    LOADERS.iter().fold(own, |router, name| {
        router.route_service(&format!("/{LOADERS_FOLDER}/{name}"), ServeFile::new(options.loaders.join(name)))
    })
}

fn headers(mut response: Response, set: &[(HeaderName, &'static str)]) -> Response {
    for (name, value) in set {
        response.headers_mut().insert(name, value.parse().expect("a constant header is valid"));
    }
    response
}

async fn status(Shared(lab): Shared<Arc<Lab>>) -> Response {
    let nodes = lab.nodes().views(Instant::now());
    let status = Status { version: 1, server: lab.server.clone(), images: lab.images(), nodes };
    let body = serde_json::to_string(&status).expect("plain data");
    headers(body.into_response(), &[(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")])
}

async fn report(
    Shared(lab): Shared<Arc<Lab>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    body: Bytes,
) -> (StatusCode, String) {
    match lab.nodes().reported(&body, client.ip().to_canonical(), Instant::now()) {
        Ok(()) => (StatusCode::NO_CONTENT, String::new()),
        Err(e) => (StatusCode::BAD_REQUEST, format!("{e}\n")),
    }
}

impl Lab {
    fn nodes(&self) -> MutexGuard<'_, State> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The images as they are, or were a moment ago. While `out` cannot be read, the last ones.
    fn images(&self) -> Vec<ImageView> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if images.0.elapsed() > IMAGES_AGE
            && let Ok(found) = load_images(&self.out)
        {
            *images = (Instant::now(), views(&found));
        }
        images.1.clone()
    }
}

fn views(images: &[BootImage]) -> Vec<ImageView> {
    let view = |image: &BootImage| ImageView {
        name: image.name.clone(),
        recipe: image.recipe.clone(),
        summary: image.summary.clone(),
        image_id: image.image_id.clone(),
        boot_bytes: image.boot_bytes,
    };
    images.iter().map(view).collect()
}

/// A line a fetch; the page's own questions and reports are said only when asked for.
fn on_fetch(lab: Arc<Lab>, ui: Arc<Ui>) -> OnFetch {
    Arc::new(move |fetch| {
        lab.nodes().fetched(fetch, Instant::now());
        let line = format!("{} {fetch}", fetch.client);
        match fetch.path.as_str() {
            "/status.json" | "/report" => ui.detail(line),
            _ => ui.say(line),
        }
    })
}
