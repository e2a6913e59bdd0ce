//! The engine on real links: a veth pair in a network namespace of the test's own thread, and a DHCP server of a few
//! lines at its other end. Needs root; elsewhere it says that it did not run.

use super::dhcp::Client;
use super::dhcp::machine::{ACK, DISCOVER, NAK, OFFER, REQUEST};
use super::dhcp::packet::{Packet, parse_packet};
use super::engine::{Engine, Millis, Outcome, Report};
use super::netlink::address::{Address, RouteTo};
use super::netlink::message::Builder;
use super::netlink::route::{Link, Route};
use super::plan::{Interface, Plan, Select, Source};
use crate::cmdline::Cmdline;
use crate::sys::fake::boot_config;
use bootwright_contract::Ipv6Mode;
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 9);

/// A cable: `veth0` in this thread's namespace, `veth1` in another one.
struct Cable {
    here: Route,
    there: Route,
    other_namespace: File,
}

/// Runs the test in a thread with network namespaces of its own.
fn with_cable(test: fn(Cable)) {
    let thread = std::thread::spawn(move || {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            assert!(std::env::var_os("CI").is_none(), "a network namespace is needed in CI: {errno}");
            eprintln!("skipped: no network namespace: {errno}");
            return;
        }
        // A socket stays in the namespace that it was made in.
        let there = Route::open().expect("a netlink socket");
        let other_namespace = File::open("/proc/thread-self/ns/net").expect("/proc");
        unshare(CloneFlags::CLONE_NEWNET).expect("as above");
        let mut here = Route::open().expect("a netlink socket");
        make_pair(&mut here, &other_namespace);
        test(Cable { here, there, other_namespace });
    });
    thread.join().expect("the test");
}

/// `ip link add veth0 type veth peer name veth1 netns OTHER` (include/uapi/linux/veth.h, if_link.h).
fn make_pair(route: &mut Route, other: &File) {
    let attribute = |kind: u16, value: &[u8]| {
        let mut bytes = [&((4 + value.len()) as u16).to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    // IFLA_IFNAME 3, IFLA_NET_NS_FD 28, IFLA_LINKINFO 18 {IFLA_INFO_KIND 1, IFLA_INFO_DATA 2 {VETH_INFO_PEER 1}}.
    let namespace = attribute(28, &other.as_raw_fd().to_ne_bytes());
    let peer = [&[0; 16][..], &attribute(3, b"veth1\0"), &namespace].concat();
    let info = [attribute(1, b"veth\0"), attribute(2, &attribute(1, &peer))].concat();
    let builder = Builder::new(16, 0x400 | 0x200, &[0; 16]).attribute(3, b"veth0\0").attribute(18, &info);
    route.socket.request("make a veth pair", builder).expect("root may");
}

fn link(route: &mut Route, name: &str) -> Link {
    route.links().expect("a list").into_iter().find(|link| link.name == name).expect("the link")
}

fn clock() -> Millis {
    crate::sys::uptime().as_millis() as Millis
}

/// Writes down what the engine says.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Report for Heard {
    fn note(&self, text: &str) {
        self.0.lock().expect("no panic").push(text.into());
    }

    fn changed(&self, outcome: &Outcome<'_>) {
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
    fn all(&self) -> Vec<String> {
        self.0.lock().expect("no panic").clone()
    }
}

fn plan(source: Source, timeout_s: u32) -> Plan {
    let select = Select::Name("veth0".into());
    let interface = Interface { select, source, ipv6: Ipv6Mode::Off, mtu: None, routes: vec![] };
    let plan = super::plan::plan(&boot_config().network, &Cmdline::default()).expect("a good config");
    Plan { interfaces: vec![interface], timeout_s, ..plan }
}

fn client() -> Client {
    Client { mac: [0; 6], uuid: None, hostname: None }
}

/// What the server saw: message type, whether it came from an address, and the packet.
type Seen = (u8, Packet);

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
        let reply = Packet {
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
        let veth1 = link(&mut self.there, "veth1");
        self.there.set_up(veth1.index).expect("up");
        veth1
    }

    /// Port 67 at the other end, also for broadcasts, served by a thread there.
    fn serve(&mut self, lease_s: u32, verdicts: Receiver<u8>, seen: Sender<Seen>) {
        let veth1 = self.plug_in();
        self.there.add_address(veth1.index, &Address::lasting((SERVER.into(), 24))).expect("an address");
        self.there
            .add_route(veth1.index, &RouteTo::lasting(([0; 4].into(), 0), None), Some(SERVER.into()))
            .expect("a way for broadcasts");
        let namespace = self.other_namespace.try_clone().expect("a descriptor");
        let (ready, is_ready) = channel();
        std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may");
            let socket = UdpSocket::bind("0.0.0.0:67").expect("our own namespace");
            socket.set_broadcast(true).expect("allowed");
            ready.send(()).expect("awaited");
            serve(socket, lease_s, verdicts, seen);
        });
        is_ready.recv().expect("the server runs");
    }
}

#[test]
fn a_lease_is_taken_renewed_and_lost() {
    with_cable(|mut cable| {
        let (verdict, verdicts) = channel();
        let (saw, seen) = channel();
        cable.serve(4, verdicts, saw);
        let heard = Heard::default();
        let mut engine = Engine::new(plan(Source::Dhcp, 20), client(), &heard, clock).expect("an engine");
        engine.wait_until_up().expect("a lease");

        // The far end may drop its first answer: the kernel sets its queue up some time after the carrier.
        let kinds: Vec<u8> = seen.try_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds.last(), Some(&REQUEST), "{kinds:?}");
        assert!(kinds[..kinds.len() - 1].iter().all(|kind| *kind == DISCOVER), "{kinds:?}");
        assert_eq!(link(&mut cable.here, "veth0").mtu, 1400, "option 26");
        // Both routes work: the kernel finds a way out of veth0, from our address.
        for target in ["192.168.9.1:9", "8.8.8.8:9"] {
            let probe = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            probe.connect(target).unwrap_or_else(|e| panic!("no route to {target}: {e}"));
            assert_eq!(probe.local_addr().expect("bound").ip(), ADDRESS, "{target}");
        }
        // The first renewal is granted, the second one refused: the address goes, and a new lease is asked for.
        let until = clock() + 20_000;
        let step_until = |engine: &mut Engine, what: &str, reached: &dyn Fn() -> bool| {
            while !reached() {
                assert!(clock() < until, "no {what}: {:?}", heard.all());
                engine.step(Some(until)).expect("a step");
            }
        };
        let configured = || heard.all().iter().filter(|line| line.contains("veth0 has [1")).count();
        step_until(&mut engine, "renewal", &|| configured() == 2);
        let (kind, renewal) = seen.recv().expect("a renewal");
        assert_eq!((kind, renewal.ciaddr), (REQUEST, ADDRESS));
        verdict.send(NAK).expect("the server runs");
        step_until(&mut engine, "loss", &|| heard.all().iter().any(|line| line == "nothing has []"));
        assert!(UdpSocket::bind((ADDRESS, 0)).is_err(), "the address is gone");
        step_until(&mut engine, "new lease", &|| configured() == 3);
        assert!(UdpSocket::bind((ADDRESS, 0)).is_ok(), "and back");
    });
}

#[test]
fn a_static_address_waits_for_the_carrier() {
    with_cable(|mut cable| {
        let source = Source::Static { addresses: vec![(ADDRESS.into(), 24)], gateways: vec![SERVER.into()] };
        let heard = Heard::default();
        // veth0 has no carrier as long as veth1 is down.
        let mut engine = Engine::new(plan(source, 1), client(), &heard, clock).expect("an engine");
        let error = engine.wait_until_up().expect_err("no carrier yet").to_string();
        assert_eq!(error, "no carrier on veth0");
        cable.plug_in();
        engine.wait_until_up().expect("a retry works");
        assert!(UdpSocket::bind((ADDRESS, 0)).is_ok());
        assert!(UdpSocket::bind("127.0.0.1:0").is_ok(), "lo is up");
        assert_eq!(heard.all(), ["veth0: carrier", "veth0 has [10.7.0.9/24]"]);
    });
}

#[test]
fn what_is_missing_is_said() {
    with_cable(|mut cable| {
        cable.plug_in();
        let heard = Heard::default();
        let mut engine = Engine::new(plan(Source::Dhcp, 1), client(), &heard, clock).expect("an engine");
        let error = engine.wait_until_up().expect_err("nobody answers").to_string();
        assert_eq!(error, "no DHCP lease on veth0");

        let mut wrong = plan(Source::Dhcp, 1);
        wrong.interfaces[0].select = Select::Mac([2, 0, 0, 0, 0, 1]);
        let mut engine = Engine::new(wrong, client(), &heard, clock).expect("an engine");
        let error = engine.wait_until_up().expect_err("no such link").to_string();
        assert!(error.starts_with("no network interface with the MAC 02:00:00:00:00:01, found: veth0"), "{error}");
        // Of links that software made none is taken by itself.
        let mut any = plan(Source::Dhcp, 1);
        any.interfaces[0].select = Select::Any(vec![]);
        let mut engine = Engine::new(any, client(), &heard, clock).expect("an engine");
        let error = engine.wait_until_up().expect_err("only veth").to_string();
        assert!(error.starts_with("no network interface at all, found: "), "{error}");
        assert!(engine.any_mac().is_none());
        let off = Engine::new(plan(Source::None, 1), client(), &heard, clock).expect("an engine").wait_until_up();
        assert!(off.is_ok());
    });
}
