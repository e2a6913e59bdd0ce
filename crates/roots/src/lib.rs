//! Roots that do not come with the initramfs: where they are, how they are attached, and who keeps them.
//!
//! A block root (`nbd`, `iscsi`) is a device with the root image on it; its [`Keeper`] repairs a lost connection in a
//! thread of its own for as long as the machine runs. That thread touches no file of the root: what it logs goes to the
//! console, what it says of its state to `/run/bootwright/roots.json`.

mod board;
pub mod content;
mod context;
#[cfg(test)]
mod fake;
pub mod http;
pub mod iscsi;
pub mod nbd;
pub mod nfs;
pub mod source;
pub mod survival;
pub mod trust;

pub use board::{Board, Entry, State, Watch};
pub use context::{Context, Journal, NetworkView, Owner};

use bootwright_base::Failure;
use bootwright_base::cmdline::Cmdline;
use bootwright_contract::{BootConfig, RootMode};
use bootwright_netconf::dns::{self, DnsError};
use bootwright_netconf::setup::Facts;
use source::{Host, Source, SourceError, Wanted};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Whether this PID1 can have its root or a volume on the network. The one for images that have neither cannot: what only
/// they need is then never reached, and not linked. Every way to it asks this.
pub const BUILT_IN: bool = cfg!(feature = "netroot");

/// Between two looks at the network while the root waits for it.
const LOOK: Duration = Duration::from_millis(20);

/// How long the name of a server may take to be looked up.
const LOOK_UP_WAIT: Duration = Duration::from_secs(20);

/// A block device from the network, and who keeps its connection.
pub struct Attached {
    pub device: PathBuf,
    pub keeper: Box<dyn Keeper>,
}

/// Keeps the connection of a root or a volume: repairs it while it is needed, and ends it in order.
pub trait Keeper: Send {
    /// Ends the connection; all that lies on it is unmounted. A server that is gone must not hold it past `deadline`.
    fn detach(self: Box<Self>, deadline: Duration) -> Result<(), Failure>;
    /// What it keeps, for people: `nbd://10.0.0.1/worker as /dev/nbd0`.
    fn describe(&self) -> String;
}

/// What an attach function is given beside the source.
pub struct Site<'a> {
    pub context: &'a Context<'a>,
    /// Addresses of the source's host, tried in turn; never empty.
    pub addresses: Vec<IpAddr>,
    /// The node's name, if it was given one.
    pub name: Option<String>,
    /// Where the keeper says how the connection is.
    pub watch: Watch,
}

/// All that is attached, in the order in which it was.
#[derive(Default)]
pub struct Keepers(Mutex<Vec<Box<dyn Keeper>>>);

impl Keepers {
    /// Keeps it until the machine goes down.
    pub fn add(&self, keeper: Box<dyn Keeper>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(keeper);
    }

    /// Takes all, the last one first.
    pub fn take(&self) -> Vec<Box<dyn Keeper>> {
        let mut keepers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        keepers.reverse();
        keepers
    }
}

#[derive(Debug, thiserror::Error)]
pub enum NetrootError {
    #[error(
        "this image's PID1 has no network roots, and cannot reach `{what}`: build the image with `--root http`, `nfs`, `iscsi` or `nbd` (`[root] mode`)"
    )]
    NotBuiltIn { what: String },
    #[error(
        "the root comes over {mode}, but neither the image nor the command line names its server: give `bw.root={mode}://...`"
    )]
    Nowhere { mode: &'static str },
    #[error("the network is not up: no way to `{root}`")]
    NoNetwork { root: String },
    #[error("DHCP gave no root path (option 17), which the command line or the image asks for")]
    NoRootPath,
    #[error("`{root}` is no block device: that must be iscsi or nbd")]
    NoDevice { root: String },
    #[error("DHCP named no boot server (next-server or option 54), and `{root}` names none")]
    NoBootServer { root: String },
    #[error(transparent)]
    Lookup(#[from] DnsError),
}

/// Where the root is, tried in turn; never empty.
pub fn wanted(config: &BootConfig, cmdline: &Cmdline) -> Result<Vec<Wanted>, SourceError> {
    let mut wanted = source::wanted(cmdline, &config.root.sources)?;
    if wanted.is_empty() {
        wanted.push(match config.root.mode {
            RootMode::Ram => Source::Ram.into(),
            _ => Wanted::RootPath,
        });
    }
    Ok(wanted)
}

/// Whether the root needs the network. What cannot be read is told when the root is looked for.
pub fn wants_network(config: &BootConfig, cmdline: &Cmdline) -> bool {
    let local = |wanted: &Wanted| *wanted == Source::Ram.into();
    BUILT_IN && wanted(config, cmdline).is_ok_and(|wanted| !wanted.iter().all(local))
}

/// Whether the first server that is to be reached has an IPv6 address and no name.
pub fn wants_ipv6(config: &BootConfig, cmdline: &Cmdline) -> bool {
    if !BUILT_IN {
        return false;
    }
    let wanted = wanted(config, cmdline).unwrap_or_default();
    let host = wanted.iter().find_map(|wanted| match wanted {
        Wanted::Source(source) => source.host(),
        Wanted::RootPath => None,
    });
    matches!(host, Some(Host::Address(IpAddr::V6(_))))
}

/// An image for roots in memory that is told to take another one.
pub fn refuse(wanted: &Wanted) -> NetrootError {
    let what = match wanted {
        Wanted::Source(source) => source.to_string(),
        Wanted::RootPath => "DHCP's root path".into(),
    };
    NetrootError::NotBuiltIn { what }
}

/// The source that is meant once the network is up.
pub fn resolve(context: &Context, wanted: &Wanted) -> Result<Source, Failure> {
    match wanted {
        Wanted::Source(source) => Ok(Source::clone(source)),
        Wanted::RootPath => {
            let facts = await_network(context, "DHCP's root path")?;
            let path = facts.root_path.ok_or_else(|| no_root_path(context));
            Ok(source::parse_root_path(&path?)?)
        }
    }
}

fn no_root_path(context: &Context) -> NetrootError {
    let mode = match context.config.root.mode {
        RootMode::Ram => return NetrootError::NoRootPath,
        RootMode::Http => "http",
        RootMode::Nfs => "nfs",
        RootMode::Iscsi => "iscsi",
        RootMode::Nbd => "nbd",
    };
    NetrootError::Nowhere { mode }
}

/// Waits until the network is up; fails when its phase was given up.
pub fn await_network(context: &Context, root: &str) -> Result<Facts, NetrootError> {
    context.wait(|| look_for_network(context, root))
}

fn look_for_network(context: &Context, root: &str) -> Result<Facts, NetrootError> {
    loop {
        let NetworkView { up, over, facts } = context.owner.network();
        if up {
            return Ok(facts);
        }
        if over {
            return Err(NetrootError::NoNetwork { root: root.into() });
        }
        std::thread::sleep(LOOK);
    }
}

/// Addresses of the host, once the network is up.
pub fn addresses(context: &Context, host: &Host, root: &str) -> Result<Vec<IpAddr>, NetrootError> {
    let facts = await_network(context, root)?;
    match host {
        Host::Address(address) => Ok(vec![*address]),
        Host::BootServer => {
            let server = facts.boot_host().ok_or_else(|| NetrootError::NoBootServer { root: root.into() })?;
            look_up(context, &server, &facts)
        }
        Host::Name(name) => look_up(context, name, &facts),
    }
}

/// Our address, where the server's kind of address is the only one that can be used.
pub fn own_address(server: IpAddr) -> Option<IpAddr> {
    // No packet is sent: connecting a datagram socket only chooses the route.
    // As a type, not as a text: that would bring the C library's resolver along, 18 kB.
    let any: IpAddr = if server.is_ipv6() { [0u8; 16].into() } else { [0u8; 4].into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((server, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Modules that the source which is tried first needs, with options; none if DHCP is still to name it.
pub fn modules(config: &BootConfig, cmdline: &Cmdline) -> Vec<(&'static str, &'static str)> {
    match wanted(config, cmdline).unwrap_or_default().first() {
        Some(Wanted::Source(source)) => match &**source {
            Source::Nbd(_) => nbd::MODULES.to_vec(),
            Source::Iscsi(_) => iscsi::MODULES.to_vec(),
            Source::Nfs(nfs) => nfs::modules(nfs),
            Source::Ram | Source::Http(_) => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// Attaches a block source. `read_only`: it is a root image.
pub fn attach(context: &Context, source: &Source, read_only: bool) -> Result<Attached, Failure> {
    match source {
        Source::Nbd(nbd) => {
            let site = site(context, &nbd.host, &source.to_string())?;
            context.owner.load_modules(nbd::MODULES)?;
            nbd::attach(nbd, site, read_only)
        }
        Source::Iscsi(iscsi) => attach_iscsi(context, iscsi),
        Source::Ram | Source::Http(_) | Source::Nfs(_) => {
            Err(NetrootError::NoDevice { root: source.to_string() }.into())
        }
    }
}

fn look_up(context: &Context, name: &str, facts: &Facts) -> Result<Vec<IpAddr>, NetrootError> {
    Ok(context.wait(|| dns::resolve(name, facts, LOOK_UP_WAIT))?)
}

/// A disk on an iSCSI target.
fn attach_iscsi(context: &Context, asked: &source::Iscsi) -> Result<Attached, Failure> {
    let disk = iscsi::complete(context, asked)?;
    let site = site(context, &disk.host, &Source::Iscsi(asked.clone()).to_string())?;
    context.owner.load_modules(iscsi::MODULES)?;
    let mut portals: Vec<SocketAddr> = site.addresses.iter().map(|ip| SocketAddr::new(*ip, disk.port)).collect();
    for (host, port) in &disk.portals {
        match addresses(context, host, &host.to_string()) {
            Ok(found) => portals.extend(found.into_iter().map(|ip| SocketAddr::new(ip, *port))),
            // The others may do.
            Err(error) => site.watch.note(&error.to_string()),
        }
    }
    iscsi::attach(&site, &disk, &portals)
}

/// What an attach function needs for a source on `host`; `root` is the source in words.
pub fn site<'a>(context: &'a Context<'a>, host: &Host, root: &str) -> Result<Site<'a>, Failure> {
    let addresses = addresses(context, host, root)?;
    let facts = context.owner.network().facts;
    let name = Some(facts.hostname).filter(|_| facts.named);
    Ok(Site { context, addresses, name, watch: Watch::new(context.board, root) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_network_roots_it_says_how_to_build_an_image_with_them() {
        for (wanted, what) in [
            (Source::Nbd(source::Nbd { host: Host::BootServer, port: 10809, export: "x".into() }).into(), "nbd:///x"),
            (Wanted::RootPath, "DHCP's root path"),
        ] {
            let text = refuse(&wanted).to_string();
            assert!(
                text.contains(&["cannot reach `", what, "`: build the image with `--root http`"].concat()),
                "{text}"
            );
        }
    }

    #[test]
    fn the_network_is_waited_for_where_a_root_can_come_from_it() {
        let mut config = bootwright_contract::fixture::boot_config();
        assert!(!wants_network(&config, &Cmdline::default()));
        config.root.sources = vec!["nbd:///worker".into()];
        assert_eq!(wants_network(&config, &Cmdline::default()), BUILT_IN);
    }

    #[test]
    fn the_first_sources_modules_are_known_before_the_network_is_up() {
        let mut config = bootwright_contract::fixture::boot_config();
        config.root.sources = vec!["nbd:///worker".into()];
        for (line, expected) in [
            ("", &["nbd"][..]),
            ("bw.root=nfs://10.0.0.1/root", &["nfs", "nfsv4"]),
            ("bw.root=nfs://10.0.0.1/root?vers=3", &["nfs", "nfsv3"]),
            ("bw.root=iscsi://10.0.0.1/iqn.2024-07.x:y", &["crc32c_generic", "iscsi_tcp", "sd_mod"]),
            ("bw.root=http://10.0.0.1/root.img", &[]),
            ("bw.root=dhcp", &[]),
        ] {
            let found = modules(&config, &bootwright_base::cmdline::parse_cmdline(line));
            assert_eq!(found.iter().map(|(name, _)| *name).collect::<Vec<_>>(), expected, "{line}");
        }
    }
}
