//! SNTP (RFC 5905 section 14, RFC 4330): asks several servers at once by how much the clock is wrong.

use super::dns::NameServers;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

const PORT: u16 = 123;
const LENGTH: usize = 48;
/// Seconds between 1900, where NTP time begins, and 1970.
const NTP_TO_UNIX_S: u64 = 2_208_988_800;
const NANOS: i128 = 1_000_000_000;
/// At most so many servers are asked.
const MOST_SERVERS: usize = 6;
/// Samples that may be wrong by more are not used (MAXDIST of RFC 5905 appendix A.5.1.1).
const LONGEST_DISTANCE_NS: i128 = 1_500_000_000;

/// What one server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Nanoseconds to be added to the clock.
    pub offset_ns: i128,
    /// How wrong the offset may be, in nanoseconds: half of the round trip, and what the server says of its own error.
    pub error_ns: i128,
}

/// Why a packet is no usable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    #[error("the packet has only {found} bytes")]
    Short { found: usize },
    #[error("the packet is no server's answer")]
    Mode,
    #[error("the packet answers another question")]
    Origin,
    #[error("the server's own clock is not set")]
    NotSet,
    /// A code of four letters (RFC 5905 section 7.4).
    #[error("the server refuses: {}", String::from_utf8_lossy(.0))]
    Refused([u8; 4]),
    #[error("the answer took too long, or its times make no sense")]
    TooFar,
    #[error("the server's time is before that of the image")]
    BeforeImage,
}

/// Why no server could be used.
#[derive(Debug, thiserror::Error)]
pub enum SntpError {
    #[error("no time server is known")]
    NoServer,
    #[error("no time server has helped: {}", .0.join(", "))]
    NoAnswer(Vec<String>),
    #[error("the time servers do not agree: {}", .0.join(", "))]
    Disagree(Vec<String>),
}

/// A question with a random number in place of the transmit time, which only its answer can repeat. All other fields
/// are zero, so that the question tells nothing of this machine (RFC 9109, draft-ietf-ntp-data-minimization).
fn write_question(cookie: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    // No leap second, version 4, mode 3 (client).
    bytes[0] = 0b00_100_011;
    bytes[40..].copy_from_slice(&cookie.to_be_bytes());
    bytes
}

/// Reads an answer that was received at `received_ns` to a question that was sent at `sent_ns`, in nanoseconds since
/// 1970 by our clock. Times before `floor_s` are refused; `floor_s` also decides which of NTP's eras of 136 years is
/// meant.
pub fn parse_answer(
    bytes: &[u8],
    cookie: u64,
    sent_ns: i128,
    received_ns: i128,
    floor_s: u64,
) -> Result<Sample, SampleError> {
    let packet = bytes.first_chunk::<LENGTH>().ok_or(SampleError::Short { found: bytes.len() })?;
    // The big-endian number in these bytes.
    let number = |place: std::ops::Range<usize>| {
        packet.get(place).unwrap_or_default().iter().fold(0u64, |all, byte| all << 8 | u64::from(*byte))
    };
    let (leap, version, mode, stratum) = (packet[0] >> 6, packet[0] >> 3 & 7, packet[0] & 7, packet[1]);
    if mode != 4 || !(3..=4).contains(&version) {
        return Err(SampleError::Mode);
    }
    if packet[24..32] != cookie.to_be_bytes() {
        return Err(SampleError::Origin);
    }
    if stratum == 0 {
        return Err(SampleError::Refused([packet[12], packet[13], packet[14], packet[15]]));
    }
    let (taken, given) = (number(32..40), number(40..48));
    if leap == 3 || stratum > 15 || taken == 0 || given == 0 {
        return Err(SampleError::NotSet);
    }
    let (taken_ns, given_ns) = (unix_ns(taken, floor_s), unix_ns(given, floor_s));
    if given_ns < i128::from(floor_s) * NANOS {
        return Err(SampleError::BeforeImage);
    }
    let delay_ns = (received_ns - sent_ns) - (given_ns - taken_ns);
    // Root delay and root dispersion are 16 bits of seconds and 16 bits of fraction.
    let own_ns = (i128::from(number(4..8)) / 2 + i128::from(number(8..12))) * NANOS / 65_536;
    let error_ns = delay_ns / 2 + own_ns;
    if delay_ns < 0 || given_ns < taken_ns || error_ns > LONGEST_DISTANCE_NS {
        return Err(SampleError::TooFar);
    }
    Ok(Sample { offset_ns: ((taken_ns - sent_ns) + (given_ns - received_ns)) / 2, error_ns })
}

/// A time in nanoseconds since 1970, from the era in which it is not earlier than 68 years before the floor.
fn unix_ns(stamp: u64, floor_s: u64) -> i128 {
    const ERA_S: u64 = 1 << 32;
    let (seconds, fraction) = (stamp >> 32, stamp & 0xffff_ffff);
    let earliest = (floor_s + NTP_TO_UNIX_S).saturating_sub(ERA_S / 2);
    let eras = earliest.saturating_sub(seconds).div_ceil(ERA_S);
    let seconds = i128::from(seconds + eras * ERA_S) - i128::from(NTP_TO_UNIX_S);
    seconds * NANOS + ((i128::from(fraction) * NANOS) >> 32)
}

/// The best sample of the largest group in which each sample agrees with the best one. `None` without a majority: two
/// servers that contradict each other decide nothing.
pub fn choose(samples: &[Sample]) -> Option<Sample> {
    let agree = |a: &Sample, b: &Sample| (a.offset_ns - b.offset_ns).abs() <= a.error_ns + b.error_ns;
    let votes = |a: &Sample| samples.iter().filter(|b| agree(a, b)).count();
    let best = samples.iter().max_by_key(|sample| (votes(sample), -sample.error_ns))?;
    (votes(best) * 2 > samples.len()).then_some(*best)
}

/// A server and the question that it was sent.
struct SntpQuery {
    name: String,
    socket: UdpSocket,
    cookie: u64,
    sent_ns: i128,
    outcome: Option<Result<Sample, String>>,
}

impl SntpQuery {
    fn read(&self, bytes: &[u8], floor_s: u64) -> Result<Sample, SampleError> {
        parse_answer(bytes, self.cookie, self.sent_ns, bootwright_base::sys::clock_ns(), floor_s)
    }
}

/// Asks all servers (addresses or names) at once and waits for answers, at most for `limit`.
///
/// # Errors
/// [`SntpError`]
pub fn ask(servers: &[String], dns: &NameServers, floor_s: u64, limit: Duration) -> Result<Sample, SntpError> {
    ask_at(servers, dns, PORT, floor_s, limit)
}

fn ask_at(
    servers: &[String],
    dns: &NameServers,
    port: u16,
    floor_s: u64,
    limit: Duration,
) -> Result<Sample, SntpError> {
    if servers.is_empty() {
        return Err(SntpError::NoServer);
    }
    let mut failed = Vec::new();
    let mut asked = Vec::new();
    for name in servers {
        match dns.resolve(name, limit) {
            Ok(found) => {
                for ip in found.into_iter().take(MOST_SERVERS - asked.len()) {
                    match send(ip, port) {
                        Ok(one) => asked.push(one),
                        Err(error) => failed.push([&ip.to_string(), ": ", &error.to_string()].concat()),
                    }
                }
            }
            Err(error) => failed.push(error.to_string()),
        }
    }
    receive(&mut asked, floor_s, Instant::now() + limit);
    let mut samples = Vec::new();
    for one in asked {
        match one.outcome {
            Some(Ok(sample)) => samples.push((one.name, sample)),
            Some(Err(why)) => failed.push([&one.name, ": ", &why].concat()),
            None => failed.push([&one.name, ": no answer"].concat()),
        }
    }
    if samples.is_empty() {
        return Err(SntpError::NoAnswer(failed));
    }
    let all: Vec<Sample> = samples.iter().map(|(_, sample)| *sample).collect();
    let tell = |(name, sample): &(String, Sample)| [name, " says ", &format_offset(sample.offset_ns)].concat();
    choose(&all).ok_or_else(|| SntpError::Disagree(samples.iter().map(tell).collect()))
}

fn send(ip: IpAddr, port: u16) -> io::Result<SntpQuery> {
    let from: IpAddr = if ip.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((from, 0))?;
    socket.connect(SocketAddr::new(ip, port))?;
    socket.set_nonblocking(true)?;
    let cookie = u64::from_ne_bytes(bootwright_base::sys::random());
    let sent_ns = bootwright_base::sys::clock_ns();
    socket.send(&write_question(cookie))?;
    Ok(SntpQuery { name: ip.to_string(), socket, cookie, sent_ns, outcome: None })
}

fn receive(asked: &mut [SntpQuery], floor_s: u64, until: Instant) {
    while asked.iter().any(|one| one.outcome.is_none()) {
        let left = until.saturating_duration_since(Instant::now()).as_millis().min(60_000) as u16;
        if left == 0 {
            return;
        }
        let open = asked.iter().filter(|one| one.outcome.is_none());
        let mut fds: Vec<PollFd> = open.map(|one| PollFd::new(one.socket.as_fd(), PollFlags::POLLIN)).collect();
        if !matches!(poll(&mut fds, PollTimeout::from(left)), Ok(_) | Err(Errno::EINTR)) {
            return;
        }
        drop(fds);
        for one in asked.iter_mut().filter(|one| one.outcome.is_none()) {
            let mut buffer = [0; 512];
            match one.socket.recv(&mut buffer) {
                Ok(length) => match one.read(buffer.get(..length).unwrap_or_default(), floor_s) {
                    // A forged or damaged packet: the true answer may still come.
                    Err(SampleError::Origin | SampleError::Mode | SampleError::Short { .. }) => {}
                    outcome => one.outcome = Some(outcome.map_err(|error| error.to_string())),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => one.outcome = Some(Err(error.to_string())),
            }
        }
    }
}

/// An offset in seconds with three digits, such as `-12.345 s`.
pub fn format_offset(offset_ns: i128) -> String {
    let millis = (offset_ns.unsigned_abs() + 500_000) / 1_000_000;
    let sign = if offset_ns < 0 { "-" } else { "+" };
    let fraction = (1000 + millis % 1000).to_string();
    [sign, &(millis / 1000).to_string(), ".", &fraction[1..], " s"].concat()
}
