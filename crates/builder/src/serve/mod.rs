//! `bootwright serve`: a lab's boot server. HTTP for images and boot chain, dnsmasq for DHCP and TFTP, and a page that shows
//! images and nodes.

mod dnsmasq;
mod error;
mod http;
mod join;
mod log;
mod registry;
mod routes;
pub mod state;
mod status;
mod text;
mod tftp;

pub use error::ServeError;
pub use http::{Fetch, Folder, HttpServer, OnFetch, Shelf};
pub use state::{NodeStage, NodeView, PhaseView, ServiceView};

use crate::chain::{BootImage, FOLDER, WrittenChain};
use crate::interrupt::Interrupts;
use crate::nodes::{Dhcp, Nodes};
use crate::ui::Ui;
use dnsmasq::Dnsmasq;
use http::{KnownClients, Site};
use join::JoinDesk;
use log::{Log, Weight};
use registry::Registry;
use state::NodeStates;
use status::SharedStatus;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where Debian installs [`LOADERS`].
pub const LOADERS_PLACE: &str = "/usr/lib/ipxe";
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

/// Serves until the user asks to end, or dnsmasq has ended.
pub fn serve(options: &ServeOptions, nodes: &Nodes, written: &WrittenChain, ui: Ui) -> Result<(), ServeError> {
    let interrupts = Interrupts::watch().map_err(|cause| ServeError::Signals { cause })?;
    let log = Log::start(Arc::new(ui));
    let answers_dhcp = options.dhcp && nodes.server.dhcp != Dhcp::None;
    let folder = Folder::new(&options.out, Shelf::Lab);
    folder.check().map_err(|cause| ServeError::Folder { path: options.out.clone(), cause })?;
    for warning in unserved(&folder, &written.images) {
        log.say(Weight::Line, warning);
    }
    let registry = Registry::new(&options.out);
    let (images, problems) = registry.look();
    for problem in problems {
        log.say(Weight::Line, format!("warning: {problem}"));
    }
    if images > 0 {
        log.say(Weight::Line, format!("images for containers: {images}, below /v2/"));
    }
    let state = NodeStates::new(&written.index);
    let lab = Arc::new(SharedStatus::new(options.out.clone(), describe(nodes, answers_dhcp), state, &written.images));
    let desk =
        nodes.cluster.as_ref().map(|cluster| JoinDesk::open(cluster, &written.images, &lab, &log)).transpose()?;
    let server = start_http(options, &folder, &lab, &registry, desk.as_ref(), &log)?;
    if let Some(desk) = desk {
        desk.approve(nodes.nodes.iter().map(|node| node.image.clone()).collect());
    }
    let address = SocketAddr::new(options.listen.ip(), server.port);
    log.say(Weight::Line, format!("http://{address}/ shows images and nodes; Ctrl-C ends it"));
    let config = written.dir.join("dnsmasq.conf");
    let mut dnsmasq = match answers_dhcp {
        true => Some(Dnsmasq::start(&config, &folder, &options.loaders)?),
        false => None,
    };
    log.say(Weight::Line, lab.server().to_string());
    while !interrupts.asked() {
        if let Some(dnsmasq) = &mut dnsmasq {
            match dnsmasq.check(&log) {
                // The signal that ends us ended it too.
                Err(_) if interrupts.asked() => break,
                checked => checked?,
            }
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}

fn start_http(
    options: &ServeOptions,
    folder: &Folder,
    lab: &Arc<SharedStatus>,
    registry: &Arc<Registry>,
    desk: Option<&JoinDesk>,
    log: &Log,
) -> Result<HttpServer, ServeError> {
    let known = KnownClients::default();
    known.set(lab.nodes().clients());
    let mut routes = routes::table(lab, &known, &options.loaders, registry);
    routes.extend(desk.map(JoinDesk::route));
    let site = Site {
        folder: folder.clone(),
        routes,
        known: known.clone(),
        on_fetch: on_fetch(lab.clone(), known, log.clone()),
    };
    let address = options.listen;
    HttpServer::listen(address, site).map_err(|cause| ServeError::Listen { address, cause })
}

/// The boot chain names the files of every image that it finds; a line for each that no machine will get.
fn unserved(folder: &Folder, images: &[BootImage]) -> Vec<String> {
    let files = images
        .iter()
        .flat_map(|image| ["vmlinuz", "initrd.img", "boot.ipxe"].map(|file| Path::new(&image.name).join(file)));
    let reason = |path: PathBuf| {
        let cause = folder.open(&path).err()?;
        Some(format!("warning: `{}` is not served: {cause}", path.display()))
    };
    files.filter_map(reason).collect()
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

/// A line a fetch; the page's own questions and reports, and what was refused for being too much, are said only when asked for.
fn on_fetch(lab: Arc<SharedStatus>, known: KnownClients, log: Log) -> OnFetch {
    Arc::new(move |fetch| {
        if lab.nodes().fetched(fetch, Instant::now()) {
            known.set(lab.nodes().clients());
        }
        let weight = match (fetch.path.as_str(), fetch.status) {
            ("/status.json" | "/report", _) | (_, 429 | 503) => Weight::Detail,
            _ => Weight::Line,
        };
        log.say(weight, format!("{} {fetch}", fetch.client));
    })
}
