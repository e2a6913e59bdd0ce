//! A network of a virtual machine, played by a test: Ethernet frames come and go as datagrams (QEMU's `-netdev dgram`). It
//! answers ARP, DHCP and NTP, behind a VLAN tag if it shall, and only when it shall. With an uplink it answers DHCP alone,
//! and the rest goes to QEMU's own network.

use crate::vm::free_port;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The server and the node's address.
pub const SERVER: [u8; 4] = [10, 9, 0, 1];
pub const NODE: [u8; 4] = [10, 9, 0, 50];
const MAC: [u8; 6] = [0x52, 0x54, 0, 0x99, 0, 1];

/// What the network does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// Nobody is there.
    pub silent: bool,
    /// DHCP answers that long after the first question.
    pub after: Duration,
    pub lease_s: u32,
    /// Frames carry this VLAN's tag; others are passed over.
    pub vlan: Option<u16>,
    /// The address that is offered; [`NODE`] unless set.
    pub offers: Option<[u8; 4]>,
    /// The time server's clock is so many seconds ahead; without it there is none.
    pub ahead_s: Option<u64>,
    /// [`SERVER`] is the host.
    pub uplink: bool,
}

/// What was seen: seconds since the network began, and the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LanEvent {
    Discover,
    Request,
    /// A request for more time, from the node's address to the server's.
    Renewal,
    Time,
    /// The node has answered who has its address.
    Arp,
}

/// A running network of one card.
pub struct Lan {
    ours: u16,
    theirs: u16,
    seen: Arc<Mutex<Vec<(Duration, LanEvent)>>>,
    asks: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    dhcp_is_gone: Arc<AtomicBool>,
    up: Option<Uplink>,
}

/// The way to QEMU's own network: ports of the frames that go there, and the host's one for the guest's sshd.
#[derive(Debug, Clone, Copy)]
struct Uplink {
    ours: u16,
    theirs: u16,
    ssh: u16,
}

/// A network with these rules.
pub fn lan(rules: Rules) -> Lan {
    Lan::start(Rules { lease_s: if rules.lease_s == 0 { 3600 } else { rules.lease_s }, ..rules })
}

/// QEMU's argument for frames as datagrams between two ports.
pub fn datagrams(id: &str, near: u16, far: u16) -> String {
    let place = |name: &str, port: u16| format!("{name}.type=inet,{name}.host=127.0.0.1,{name}.port={port}");
    format!("dgram,id={id},{},{}", place("local", near), place("remote", far))
}

impl Lan {
    fn start(rules: Rules) -> Lan {
        let bind = || UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let (socket, free, up, up_free) = (bind(), bind(), bind(), bind());
        let port = |socket: &UdpSocket| socket.local_addr().expect("bound").port();
        let lan = Lan {
            ours: port(&socket),
            theirs: port(&free),
            seen: Arc::default(),
            asks: Arc::default(),
            over: Arc::default(),
            dhcp_is_gone: Arc::default(),
            up: rules.uplink.then(|| Uplink { ours: port(&up), theirs: port(&up_free), ssh: free_port() }),
        };
        if lan.up.is_some() {
            let (down, from) = (socket.try_clone().expect("a descriptor"), up.try_clone().expect("one"));
            forward(from, down, lan.theirs, lan.over.clone());
        }
        let mut wire = Wire {
            socket,
            theirs: lan.theirs,
            rules,
            seen: lan.seen.clone(),
            asks: lan.asks.clone(),
            dhcp_is_gone: lan.dhcp_is_gone.clone(),
            up: lan.up.map(|uplink| (up, uplink.theirs)),
            began: Instant::now(),
            first: None,
        };
        let over = lan.over.clone();
        std::thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                wire.turn();
            }
        });
        lan
    }

    /// QEMU's arguments for the network card's other end, `id`, and for what is behind it.
    pub fn netdevs(&self, id: &str) -> Vec<String> {
        let card = datagrams(id, self.theirs, self.ours);
        let Some(Uplink { ours, theirs, ssh }) = self.up else { return vec![card] };
        let net = format!("net=10.9.0.0/24,host=10.9.0.1,hostfwd=tcp:127.0.0.1:{ssh}-10.9.0.50:22");
        let mut netdevs = vec![card, format!("user,id={id}-user,{net}"), datagrams(&format!("{id}-up"), theirs, ours)];
        // They have no card of their own, but one wire.
        for end in ["user", "up"] {
            netdevs.push(format!("hubport,id={id}-{end}-port,hubid=0,netdev={id}-{end}"));
        }
        netdevs
    }

    /// The host's port for the guest's sshd, with an uplink.
    pub fn ssh_port(&self) -> u16 {
        self.up.expect("it has an uplink").ssh
    }

    /// From now on nobody answers DHCP.
    pub fn end_dhcp(&self) {
        self.dhcp_is_gone.store(true, Ordering::SeqCst);
    }

    pub fn seen(&self) -> Vec<(Duration, LanEvent)> {
        self.seen.lock().expect("no panic").clone()
    }

    pub fn count(&self, what: LanEvent) -> usize {
        self.seen().iter().filter(|(_, seen)| *seen == what).count()
    }

    /// From now on asks every half second who has the node's address.
    pub fn ask_for_node(&self) {
        self.asks.store(true, Ordering::SeqCst);
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

/// Until the network ends, frames that come at one socket go to a port from the other.
fn forward(from: UdpSocket, to: UdpSocket, port: u16, over: Arc<AtomicBool>) {
    from.set_read_timeout(Some(Duration::from_millis(500))).expect("allowed");
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while !over.load(Ordering::SeqCst) {
            if let Ok(length) = from.recv(&mut buffer) {
                // Before QEMU listens there is nobody to hear it.
                let _ = to.send_to(&buffer[..length], ("127.0.0.1", port));
            }
        }
    });
}

struct Wire {
    socket: UdpSocket,
    theirs: u16,
    rules: Rules,
    seen: Arc<Mutex<Vec<(Duration, LanEvent)>>>,
    asks: Arc<AtomicBool>,
    dhcp_is_gone: Arc<AtomicBool>,
    /// Where what is not for us goes, and the port there.
    up: Option<(UdpSocket, u16)>,
    began: Instant,
    /// When DHCP was asked first.
    first: Option<Instant>,
}

impl Wire {
    fn turn(&mut self) {
        self.socket.set_read_timeout(Some(Duration::from_millis(500))).expect("allowed");
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(length) => drop(self.frame(&buffer[..length])),
            Err(_) if self.asks.load(Ordering::SeqCst) => {
                let question = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &MAC, &SERVER, &[0; 6], &NODE].concat();
                self.send(&[0xff; 6], 0x0806, &question);
            }
            Err(_) => {}
        }
    }

    fn note(&self, what: LanEvent) {
        self.seen.lock().expect("no panic").push((self.began.elapsed(), what));
    }

    /// `None` when it is nothing for us.
    fn frame(&mut self, frame: &[u8]) -> Option<()> {
        if self.rules.silent {
            return None;
        }
        let from: [u8; 6] = frame.get(6..12)?.try_into().ok()?;
        let mut at = 12;
        if let Some(vlan) = self.rules.vlan {
            if frame.get(12..14)? != [0x81, 0] || word(frame, 14)? & 0xfff != vlan {
                return None;
            }
            at = 16;
        }
        let payload = frame.get(at + 2..)?;
        if let Some((up, port)) = &self.up
            && !is_dhcp(word(frame, at)?, payload)
        {
            up.send_to(frame, ("127.0.0.1", *port)).ok()?;
            return Some(());
        }
        match word(frame, at)? {
            0x0806 => self.arp(payload, &from),
            0x0800 => self.ipv4(payload, &from),
            _ => None,
        }
    }

    fn arp(&self, packet: &[u8], from: &[u8; 6]) -> Option<()> {
        match (word(packet, 6)?, packet.get(14..18)?, packet.get(24..28)?) {
            (1, sender, target) if target == SERVER => {
                let answer = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &MAC, &SERVER, from, sender].concat();
                self.send(from, 0x0806, &answer);
            }
            (2, sender, _) if sender == NODE => self.note(LanEvent::Arp),
            _ => {}
        }
        Some(())
    }

    fn ipv4(&mut self, packet: &[u8], from: &[u8; 6]) -> Option<()> {
        let header = usize::from(packet.first()? & 15) * 4;
        let (sender, target) = (packet.get(12..16)?, packet.get(16..20)?);
        if packet[9] != 17 {
            return None;
        }
        let data = packet.get(header + 8..)?;
        match word(packet, header + 2)? {
            67 => self.dhcp(data, sender == NODE && target == SERVER),
            123 if target == SERVER => {
                self.note(LanEvent::Time);
                let answer = self.time(data)?;
                let port = word(packet, header)?;
                self.send(from, 0x0800, &udp(SERVER, NODE, 123, port, &answer));
                Some(())
            }
            _ => None,
        }
    }

    fn dhcp(&mut self, message: &[u8], renewal: bool) -> Option<()> {
        let kind = option(message, 53)?;
        let (verdict, what) = match (kind, renewal) {
            ([1], _) => (2, LanEvent::Discover),
            ([3], true) => (5, LanEvent::Renewal),
            ([3], false) => (5, LanEvent::Request),
            _ => return None,
        };
        self.note(what);
        let first = *self.first.get_or_insert_with(Instant::now);
        if first.elapsed() < self.rules.after || self.dhcp_is_gone.load(Ordering::SeqCst) {
            return None;
        }
        let mut answer = message.get(..236)?.to_vec();
        answer[0] = 2;
        answer[16..20].copy_from_slice(&self.rules.offers.unwrap_or(NODE));
        answer[20..24].copy_from_slice(&SERVER);
        answer.extend([99, 130, 83, 99, 53, 1, verdict, 1, 4, 255, 255, 255, 0, 51, 4]);
        answer.extend(self.rules.lease_s.to_be_bytes());
        for code in [54, 3, 42].into_iter().filter(|code| *code != 42 || self.rules.ahead_s.is_some()) {
            answer.extend([code, 4]);
            answer.extend(SERVER);
        }
        answer.push(255);
        let to: [u8; 6] = message.get(28..34)?.try_into().ok()?;
        let target = if renewal { NODE } else { [255; 4] };
        self.send(&to, 0x0800, &udp(SERVER, target, 67, 68, &answer));
        Some(())
    }

    /// An NTP answer of stratum 1.
    fn time(&self, question: &[u8]) -> Option<Vec<u8>> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let seconds = now.as_secs() + 2_208_988_800 + self.rules.ahead_s?;
        let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
        let stamp = (seconds << 32 | fraction).to_be_bytes();
        let mut answer = vec![0; 48];
        (answer[0], answer[1]) = (0b00_100_100, 1);
        answer[24..32].copy_from_slice(question.get(40..48)?);
        answer[32..40].copy_from_slice(&stamp);
        answer[40..].copy_from_slice(&stamp);
        Some(answer)
    }

    fn send(&self, to: &[u8; 6], kind: u16, payload: &[u8]) {
        let tag = self.rules.vlan.map_or(Vec::new(), |vlan| [[0x81, 0], vlan.to_be_bytes()].concat());
        let frame = [to, &MAC[..], &tag, &kind.to_be_bytes(), payload].concat();
        // Before QEMU listens there is nobody to hear it.
        let _ = self.socket.send_to(&frame, ("127.0.0.1", self.theirs));
    }
}

/// From client to server, over IPv4.
fn is_dhcp(kind: u16, packet: &[u8]) -> bool {
    let header = packet.first().map_or(0, |first| usize::from(first & 15) * 4);
    kind == 0x0800 && packet.get(9) == Some(&17) && word(packet, header + 2) == Some(67)
}

fn udp(from: [u8; 4], to: [u8; 4], source: u16, target: u16, data: &[u8]) -> Vec<u8> {
    let length = 8 + data.len() as u16;
    let mut packet = vec![0x45, 0];
    packet.extend((20 + length).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend([from, to].concat());
    let sum = packet.chunks(2).fold(0u32, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    // A checksum of zero says that there is none (RFC 768).
    for word in [source, target, length, 0] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend(data);
    packet
}

fn option(message: &[u8], code: u8) -> Option<&[u8]> {
    let mut at = 240;
    while let [found, length, ..] = *message.get(at..)? {
        if found == 255 {
            return None;
        }
        let value = message.get(at + 2..at + 2 + usize::from(length))?;
        if found == code {
            return Some(value);
        }
        at += 2 + value.len();
    }
    None
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
