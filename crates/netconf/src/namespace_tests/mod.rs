//! The engine on real links: veth pairs in a network namespace of the test's own thread, and servers at their other
//! ends. Needs root; elsewhere it says that it did not run.

mod ipv4;
mod ipv6;
mod made;
mod oddities;
mod race;

use super::dhcp::DhcpClient;
use super::dhcp::machine::{ACK, DISCOVER, NAK, OFFER, REQUEST};
use super::dhcp::packet::{DhcpPacket, parse_packet};
use super::engine::{Engine, EngineReport, Millis, NetworkOutcome};
use super::ip_param::parse_cidr;
use super::netlink::address::{Address, Cidr, RouteTo};
use super::netlink::message::MessageBuilder;
use super::netlink::route::{Link, Route};
use super::plan::{Interface, InterfaceChoice, Plan};
use super::setup::NetworkSetup;
use bootwright_base::cmdline::Cmdline;
use bootwright_base::testing::can;
use bootwright_contract::Ipv6Mode;
use bootwright_contract::fixture::boot_config;
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 9);

/// Cables between this thread's namespace and another one; the first is from `veth0` here to `veth1` there.
struct Cable {
    here: Route,
    there: Route,
    other_namespace: File,
}

/// Runs the test in a thread with network namespaces of its own.
fn with_cable(test: impl FnOnce(Cable) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        if !can(unshare(CloneFlags::CLONE_NEWNET).is_ok(), "root for a network namespace") {
            return;
        }
        // A socket stays in the namespace that it was made in.
        let there = Route::open().expect("a netlink socket");
        let other_namespace = File::open("/proc/thread-self/ns/net").expect("/proc");
        unshare(CloneFlags::CLONE_NEWNET).expect("as above");
        let mut here = Route::open().expect("a netlink socket");
        make_pair(&mut here, &other_namespace, "veth0", "veth1");
        test(Cable { here, there, other_namespace });
    });
    thread.join().expect("the test");
}

/// `ip link add HERE type veth peer name THERE netns OTHER` (include/uapi/linux/veth.h, if_link.h).
fn make_pair(route: &mut Route, other: &File, here: &str, there: &str) {
    let attribute = |kind: u16, value: &[u8]| {
        let mut bytes = [&((4 + value.len()) as u16).to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    // IFLA_IFNAME 3, IFLA_NET_NS_FD 28, IFLA_LINKINFO 18 {IFLA_INFO_KIND 1, IFLA_INFO_DATA 2 {VETH_INFO_PEER 1}}.
    let namespace = attribute(28, &other.as_raw_fd().to_ne_bytes());
    let peer = [&[0; 16][..], &attribute(3, &[there.as_bytes(), &[0]].concat()), &namespace].concat();
    let info = [attribute(1, b"veth\0"), attribute(2, &attribute(1, &peer))].concat();
    let builder = MessageBuilder::new(16, 0x400 | 0x200, &[0; 16])
        .attribute(3, &[here.as_bytes(), &[0]].concat())
        .attribute(18, &info);
    route.socket.request("make a veth pair", builder).expect("root may");
}

fn link(route: &mut Route, name: &str) -> Link {
    route.links().expect("a list").into_iter().find(|link| link.name == name).expect("the link")
}

fn clock() -> Millis {
    bootwright_base::sys::uptime().as_millis() as Millis
}

/// Writes down what the engine says.
#[derive(Default)]
struct Heard {
    lines: Mutex<Vec<String>>,
    setup: Mutex<Option<NetworkSetup>>,
}

impl EngineReport for Heard {
    fn note(&self, text: &str) {
        self.lines.lock().expect("no panic").push(text.into());
    }

    fn changed(&self, outcome: &NetworkOutcome<'_>) {
        *self.setup.lock().expect("no panic") = outcome.setups[..outcome.own].last().map(|setup| (*setup).clone());
        let name = outcome.link.map_or("nothing", |link| &link.name);
        let all = outcome.setups.iter().flat_map(|setup| &setup.addresses);
        let all: Vec<String> = all.map(|address| format!("{}/{}", address.ip, address.prefix)).collect();
        self.note(&format!("{name} has [{}]", all.join(" ")));
    }

    fn load_module(&self, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }
}

impl Heard {
    /// The last setup of the node's own interface that was told: the IPv6 one if there is one.
    fn last(&self) -> NetworkSetup {
        self.setup.lock().expect("no panic").clone().expect("there was one")
    }

    fn all(&self) -> Vec<String> {
        self.lines.lock().expect("no panic").clone()
    }
}

/// Where the addresses of an interface come from.
enum Source {
    None,
    Dhcp,
    Static { addresses: Vec<Cidr>, gateways: Vec<IpAddr> },
}

fn interface(name: &str, source: Source) -> Interface {
    let interface = Interface::off(InterfaceChoice::Name(name.into()));
    match source {
        Source::None => interface,
        Source::Dhcp => Interface { dhcp: true, ..interface },
        Source::Static { addresses, gateways } => Interface { addresses, gateways, ..interface },
    }
}

fn plan(source: Source, timeout_s: u32) -> Plan {
    let interface = interface("veth0", source);
    let plan = super::plan::plan(&boot_config().network, &Cmdline::default()).expect("a good config");
    Plan { interfaces: vec![interface], timeout_s, ..plan }
}

fn client() -> DhcpClient {
    DhcpClient { mac: [0; 6], uuid: None, hostname: None }
}

/// What the server saw: message type, whether it came from an address, and the packet.
type Seen = (u8, DhcpPacket);

/// A server on `veth1` that offers [`ADDRESS`] for a lease of `lease_s`, until `verdicts` says NAK for a renewal.
fn serve(socket: UdpSocket, lease_s: u32, verdicts: Receiver<u8>, seen: Sender<Seen>) {
    let mut buffer = [0; 2000];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let request = parse_packet(&buffer[..length]).expect("our client's");
        let kind = request.kind().expect("a type");
        let renewal = kind == REQUEST && !request.ciaddr.is_unspecified();
        let verdict = match kind {
            DISCOVER => OFFER,
            _ if renewal => verdicts.try_recv().unwrap_or(ACK),
            _ => ACK,
        };
        let to = if renewal { from } else { (Ipv4Addr::BROADCAST, 68).into() };
        let options = vec![
            (53, vec![verdict]),
            (54, SERVER.octets().to_vec()),
            (51, lease_s.to_be_bytes().to_vec()),
            (1, vec![255, 255, 255, 0]),
            (26, 1400u16.to_be_bytes().to_vec()),
            // A network behind the server, and a default gateway that no address holds.
            (121, vec![24, 192, 168, 9, 10, 7, 0, 1, 0, 10, 8, 0, 1]),
        ];
        let reply = DhcpPacket {
            op: 2,
            yiaddr: ADDRESS,
            siaddr: SERVER,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            options,
            ..request.clone()
        };
        if seen.send((kind, request)).is_err() || socket.send_to(&reply.to_bytes(), to).is_err() {
            return;
        }
    }
}

impl Cable {
    fn plug_in(&mut self) -> Link {
        self.plug("veth1")
    }

    fn plug(&mut self, name: &str) -> Link {
        let link = link(&mut self.there, name);
        self.there.set_up(link.index).expect("up");
        link
    }

    /// One more cable.
    fn add(&mut self, here: &str, there: &str) {
        make_pair(&mut self.here, &self.other_namespace, here, there);
    }

    /// Gives the far end of a cable addresses.
    fn address_there(&mut self, name: &str, addresses: &[&str]) {
        let link = self.plug(name);
        for address in addresses {
            let cidr = parse_cidr(address).expect("an address with prefix");
            self.there.add_address(link.index, &Address::lasting(cidr)).expect("root may");
        }
    }

    /// Runs a program at the other end until what comes back is dropped.
    fn run_there(&self, program: &str, args: &[String]) -> Program {
        let namespace = self.other_namespace.try_clone().expect("a descriptor");
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A child has the namespace of the thread that started it.
        let started = std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may");
            command.spawn()
        });
        Program(started.join().expect("no panic").expect("the program is installed"))
    }

    /// dnsmasq at the far end of `link`, without DNS and without files of the machine.
    fn dnsmasq(&self, link: &str, args: &[&str]) -> Program {
        let own = [
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--pid-file=",
            "--user=root",
            "--no-ping",
            "--bind-interfaces",
            "--leasefile-ro",
        ];
        let mut all: Vec<String> = own.iter().chain(args).map(|arg| arg.to_string()).collect();
        all.push(format!("--interface={link}"));
        self.run_there("dnsmasq", &all)
    }

    /// Does something in a thread at the other end.
    fn in_the_other_namespace(&self, work: impl FnOnce() + Send + 'static) {
        let namespace = self.other_namespace.try_clone().expect("a descriptor");
        std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may");
            work();
        });
    }

    /// Port 67 at the other end, also for broadcasts, for a thread there.
    fn listen(&mut self, serve: impl FnOnce(UdpSocket) + Send + 'static) {
        let veth1 = self.plug_in();
        self.there.add_address(veth1.index, &Address::lasting((SERVER.into(), 24))).expect("an address");
        self.there
            .add_route(veth1.index, &RouteTo::lasting(([0; 4].into(), 0), None), Some(SERVER.into()))
            .expect("a way for broadcasts");
        let (ready, is_ready) = channel();
        self.in_the_other_namespace(move || {
            let socket = UdpSocket::bind("0.0.0.0:67").expect("our own namespace");
            socket.set_broadcast(true).expect("allowed");
            ready.send(()).expect("awaited");
            serve(socket);
        });
        is_ready.recv().expect("the server runs");
    }

    /// A good server.
    fn serve(&mut self, lease_s: u32, verdicts: Receiver<u8>, seen: Sender<Seen>) {
        self.listen(move |socket| serve(socket, lease_s, verdicts, seen));
    }
}

/// A program that ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a program is there; in CI it has to be.
fn have(program: &str) -> bool {
    let found = ["/usr/sbin", "/usr/bin", "/sbin"].iter().any(|dir| std::path::Path::new(dir).join(program).exists());
    can(found, program)
}

/// Steps until something was said that holds `text`.
fn step_until(engine: &mut Engine, heard: &Heard, text: &str) {
    let until = clock() + 30_000;
    while !heard.all().iter().any(|line| line.contains(text)) {
        assert!(clock() < until, "nobody said {text:?}: {:#?}", heard.all());
        engine.step(Some(until)).expect("a step");
    }
}
