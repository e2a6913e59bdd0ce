//! The resolver of PID1, for the names of root and time servers. All waits are bounded and nothing is cached.

pub mod message;

use super::setup::NetworkFacts;
use message::{DnsAnswer, RecordType, parse_answer, write_question};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// At most so many name servers are asked (resolv.conf(5) has the same limit).
const MOST_SERVERS: usize = 3;
/// How long each server may take, in the first and in the second round.
const WAITS: [Duration; 2] = [Duration::from_millis(1500), Duration::from_secs(4)];
/// How long to wait for the other address type once one type has a usable answer. Many servers never answer about AAAA
/// (RFC 4074 section 4.1). RFC 8305 section 3 waits even less.
const OTHER_KIND: Duration = Duration::from_millis(500);
/// A wait shorter than this is not worth a question.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error("`{name}` is no host name")]
    BadName { name: String },
    #[error("no name server is known that could look `{name}` up")]
    NoServer { name: String },
    #[error("the name servers know no address of `{name}`")]
    NotFound { name: String },
    /// One cause for each server.
    #[error("cannot look `{name}` up: {}", .causes.join(", "))]
    NoAnswer { name: String, causes: Vec<String> },
}

/// Why one server gave no addresses.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no answer")]
    Silent,
    #[error("it answered with code {0}")]
    Refused(u8),
    #[error("it knows nothing and asks nobody")]
    Elsewhere,
}

impl AskError {
    /// Whether the server works and has nothing for this name, so that other names can still be asked.
    fn is_about_the_name(&self) -> bool {
        matches!(self, AskError::Refused(_) | AskError::Elsewhere)
    }
}

/// Why no server gave addresses.
struct FailedServers {
    /// One cause for each server.
    causes: Vec<String>,
    /// Whether all servers answered.
    answered: bool,
}

/// Name servers with their ports, in the order in which they are asked, and the search list.
#[derive(Debug, Clone, Default)]
pub struct NameServers {
    pub servers: Vec<SocketAddr>,
    pub search: Vec<String>,
    /// The node has only IPv6, so IPv6 addresses come first.
    pub prefer_v6: bool,
}

/// The addresses of `host` in the order in which they should be tried. An IP address stands for itself (IPv6 with or
/// without brackets); a name is looked up as A and AAAA within `limit`.
///
/// # Errors
/// [`DnsError`]
pub fn resolve(host: &str, facts: &NetworkFacts, limit: Duration) -> Result<Vec<IpAddr>, DnsError> {
    NameServers::from_facts(facts).resolve(host, limit)
}

impl NameServers {
    /// The name servers that the network has told.
    pub fn from_facts(facts: &NetworkFacts) -> NameServers {
        let index = facts.interface.as_deref().and_then(|name| nix::net::if_::if_nametoindex(name).ok()).unwrap_or(0);
        let socket = |ip: &IpAddr| match ip {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => SocketAddrV6::new(*ip, 53, 0, index).into(),
            ip => SocketAddr::new(*ip, 53),
        };
        NameServers {
            servers: facts.dns.iter().take(MOST_SERVERS).map(socket).collect(),
            search: facts.search.clone(),
            prefer_v6: facts.ip.is_some_and(|ip| ip.is_ipv6()),
        }
    }

    /// See [`resolve`](resolve()).
    pub fn resolve(&self, host: &str, limit: Duration) -> Result<Vec<IpAddr>, DnsError> {
        let plain = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = plain.parse() {
            return Ok(vec![ip]);
        }
        let name = || host.to_string();
        if super::dhcp::options::parse_host_name(host.as_bytes()).is_none() {
            return Err(DnsError::BadName { name: name() });
        }
        if self.servers.is_empty() {
            return Err(DnsError::NoServer { name: name() });
        }
        let end = Instant::now() + limit;
        let mut failed = None;
        for candidate in candidates(host, &self.search) {
            match self.look_up(&candidate, end) {
                Ok(found) if !found.is_empty() => return Ok(found),
                Ok(_) => {}
                Err(FailedServers { causes, answered }) => {
                    failed.get_or_insert(DnsError::NoAnswer { name: candidate, causes });
                    // As in glibc: a domain of the search list for which servers have no answer does not hide the next
                    // one, but silence of all servers does.
                    if !answered {
                        break;
                    }
                }
            }
        }
        Err(failed.unwrap_or_else(|| DnsError::NotFound { name: name() }))
    }

    /// Both types of addresses of one full name. The first server that answers is believed.
    fn look_up(&self, name: &str, end: Instant) -> Result<Vec<IpAddr>, FailedServers> {
        let mut failed = FailedServers { causes: Vec::new(), answered: false };
        for wait in WAITS {
            // The causes of the first round say more than "no time for a second round".
            if !failed.causes.is_empty() && left(end).is_err() {
                break;
            }
            failed = FailedServers { causes: Vec::new(), answered: true };
            for server in &self.servers {
                let until = end.min(Instant::now() + wait);
                match self.ask_both(*server, name, until) {
                    Ok(mut found) => {
                        // The sort is stable: the server's order stays within a family.
                        bootwright_base::order::sort_by_key(&mut found, |ip| ip.is_ipv6() != self.prefer_v6);
                        return Ok(found);
                    }
                    Err(error) => {
                        failed.answered &= error.is_about_the_name();
                        failed.causes.push([&server.ip().to_string(), ": ", &error.to_string()].concat());
                    }
                }
            }
            if failed.answered {
                break;
            }
        }
        Err(failed)
    }

    /// Asks one server for A and AAAA at the same time. An address counts whatever the server says about the other
    /// type: there are servers that answer about AAAA with errors, with "no such name" or not at all (RFC 4074 section
    /// 4).
    fn ask_both(&self, server: SocketAddr, name: &str, until: Instant) -> Result<Vec<IpAddr>, AskError> {
        let from: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((from, 0))?;
        // The socket is connected, so the kernel drops packets from other addresses, and reports when nobody listens
        // there.
        socket.connect(server)?;
        let id = random_u16();
        let ask = |kind, id| write_question(id, name, kind).map(|question| (kind, question)).ok_or(AskError::Silent);
        let mut open = vec![ask(RecordType::V4, id)?, ask(RecordType::V6, id.wrapping_add(1))?];
        for (_, question) in &open {
            socket.send(question)?;
        }
        let (mut heard, mut truncated) = (HostAnswers::default(), Vec::new());
        let (mut limit, mut buffer) = (until, [0; 1500]);
        while !open.is_empty() {
            let length = match left(limit).and_then(|left| receive(&socket, &mut buffer, left)) {
                Ok(Some(length)) => length,
                Ok(None) => continue,
                Err(error) => {
                    heard.failed.get_or_insert(error);
                    break;
                }
            };
            let answers = |(kind, question): &(RecordType, Vec<u8>)| {
                parse_answer(buffer.get(..length).unwrap_or_default(), question, *kind)
            };
            let Some((at, answer)) = open.iter().enumerate().find_map(|(at, asked)| Some((at, answers(asked)?))) else {
                continue;
            };
            let (kind, question) = open.swap_remove(at);
            match answer {
                DnsAnswer::Truncated => truncated.push((kind, question)),
                answer => heard.take(kind, Ok(answer)),
            }
            if heard.is_enough(self.prefer_v6) || !truncated.is_empty() {
                limit = limit.min(Instant::now() + OTHER_KIND);
            }
        }
        for (kind, question) in truncated {
            let enough = heard.is_enough(self.prefer_v6);
            let limit = if enough { until.min(Instant::now() + OTHER_KIND) } else { until };
            heard.take(kind, ask_by_tcp(server, &question, kind, limit));
        }
        heard.outcome()
    }
}

/// What one server has answered about a name.
#[derive(Default)]
struct HostAnswers {
    found: Vec<IpAddr>,
    /// The server says of the A record that the name does not exist. Servers that say so of AAAA alone only have no
    /// such record.
    no_name: bool,
    /// Number of record types that were answered, also with "none".
    answered: usize,
    failed: Option<AskError>,
}

impl HostAnswers {
    fn take(&mut self, kind: RecordType, answer: Result<DnsAnswer, AskError>) {
        let error = match answer {
            Ok(DnsAnswer::Addresses(addresses)) => {
                self.answered += 1;
                return self.found.extend(addresses);
            }
            Ok(DnsAnswer::NoName) => {
                self.answered += 1;
                self.no_name |= kind == RecordType::V4;
                return;
            }
            Ok(DnsAnswer::Refused(code)) => AskError::Refused(code),
            Ok(DnsAnswer::Elsewhere) => AskError::Elsewhere,
            Ok(DnsAnswer::Truncated) => AskError::Silent,
            Err(error) => error,
        };
        self.failed.get_or_insert(error);
    }

    /// There is an address of the family that the node prefers, or the name does not exist: the missing answer can
    /// hardly change the outcome.
    fn is_enough(&self, prefer_v6: bool) -> bool {
        self.no_name || self.found.iter().any(|ip| ip.is_ipv6() == prefer_v6)
    }

    fn outcome(self) -> Result<Vec<IpAddr>, AskError> {
        match self.failed {
            Some(error) if self.found.is_empty() && !self.no_name && self.answered < 2 => Err(error),
            _ => Ok(self.found),
        }
    }
}

/// The length of the next packet; `None` when none came within `left`.
fn receive(socket: &UdpSocket, buffer: &mut [u8], left: Duration) -> Result<Option<usize>, AskError> {
    socket.set_read_timeout(Some(left))?;
    match socket.recv(buffer) {
        Ok(length) => Ok(Some(length)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The full names to try in turn, as resolv.conf(5) says: a name with a dot first as it is, a name without one first
/// with the search list.
fn candidates(host: &str, search: &[String]) -> Vec<String> {
    if let Some(full) = host.strip_suffix('.') {
        return vec![full.into()];
    }
    let mut names: Vec<String> = search.iter().map(|domain| [host, ".", domain].concat()).collect();
    let at = if host.contains('.') { 0 } else { names.len() };
    names.insert(at, host.into());
    names
}

/// Asks the same question over TCP (RFC 7766), where each message follows its length.
fn ask_by_tcp(server: SocketAddr, question: &[u8], kind: RecordType, until: Instant) -> Result<DnsAnswer, AskError> {
    let mut stream = TcpStream::connect_timeout(&server, left(until)?)?;
    let length = u16::try_from(question.len()).unwrap_or(u16::MAX).to_be_bytes();
    stream.set_write_timeout(Some(left(until)?))?;
    stream.write_all(&[&length, question].concat())?;
    let mut length = [0; 2];
    read_exact(&mut stream, &mut length, until)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    read_exact(&mut stream, &mut answer, until)?;
    parse_answer(&answer, question, kind).ok_or(AskError::Silent)
}

/// Reads until the buffer is full or `until` has come: a server that sends a byte now and then cannot hold us longer.
fn read_exact(stream: &mut TcpStream, mut buffer: &mut [u8], until: Instant) -> Result<(), AskError> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(buffer) {
            Ok(0) => return Err(AskError::Silent),
            Ok(length) => buffer = buffer.get_mut(length..).unwrap_or_default(),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn left(until: Instant) -> Result<Duration, AskError> {
    let left = until.saturating_duration_since(Instant::now());
    if left < SHORTEST_WAIT { Err(AskError::Silent) } else { Ok(left) }
}

/// An unpredictable id, so that others cannot forge the answer. Does not wait for entropy early in the boot.
fn random_u16() -> u16 {
    u16::from_ne_bytes(bootwright_base::sys::random())
}
