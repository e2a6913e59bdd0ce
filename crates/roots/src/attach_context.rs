//! What is needed to reach a server: the network, and the addresses of the server.

use super::context::{NetworkView, RootContext};
use super::source::Host;
use super::statuses::StatusHandle;
use bootwright_base::Failure;
use bootwright_netconf::dns::{self, DnsError};
use bootwright_netconf::setup::NetworkFacts;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

/// Pause between two looks at the network.
const LOOK: Duration = Duration::from_millis(20);

/// Limit for looking up the name of a server.
const LOOK_UP_WAIT: Duration = Duration::from_secs(20);

/// The input of an attach function beside the source.
pub struct AttachContext<'a> {
    pub context: &'a RootContext<'a>,
    /// Addresses of the server in the order in which they are tried; never empty.
    pub addresses: Vec<IpAddr>,
    /// The node's name, if it was given one.
    pub name: Option<String>,
    /// Takes the state of the connection, for the status and the console.
    pub status: StatusHandle,
}

/// Why a root or volume cannot be reached.
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

/// Waits for the network and looks up `host`. `root` is the source in words.
///
/// # Errors
/// [`NetrootError`]
pub fn attach_context<'a>(context: &'a RootContext<'a>, host: &Host, root: &str) -> Result<AttachContext<'a>, Failure> {
    let addresses = addresses(context, host, root)?;
    let facts = context.node.network().facts;
    let name = Some(facts.hostname).filter(|_| facts.named);
    Ok(AttachContext { context, addresses, name, status: StatusHandle::new(context.statuses, root) })
}

/// Waits until the network is up.
///
/// # Errors
/// [`NetrootError`] when the phase `network` was given up.
pub fn await_network(context: &RootContext, root: &str) -> Result<NetworkFacts, NetrootError> {
    context.wait(|| look_for_network(context, root))
}

fn look_for_network(context: &RootContext, root: &str) -> Result<NetworkFacts, NetrootError> {
    loop {
        let NetworkView { up, over, facts } = context.node.network();
        if up {
            return Ok(facts);
        }
        if over {
            return Err(NetrootError::NoNetwork { root: root.into() });
        }
        std::thread::sleep(LOOK);
    }
}

/// The addresses of a host, once the network is up.
pub fn addresses(context: &RootContext, host: &Host, root: &str) -> Result<Vec<IpAddr>, NetrootError> {
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

/// Our address towards a server of that address family; `None` when there is no route.
pub fn own_address(server: IpAddr) -> Option<IpAddr> {
    // No packet is sent: connecting a datagram socket only chooses a route. The address is built as a type and not
    // parsed from a text, because std's parser here would pull in the C library's resolver, 18 kB.
    let any: IpAddr = if server.is_ipv6() { [0u8; 16].into() } else { [0u8; 4].into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((server, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn look_up(context: &RootContext, name: &str, facts: &NetworkFacts) -> Result<Vec<IpAddr>, NetrootError> {
    Ok(context.wait(|| dns::resolve(name, facts, LOOK_UP_WAIT))?)
}
