//! Reports to a boot server how far the boot is: to `[report] url` of the recipe, or to `bw.report=`. Reports run in
//! their own thread, every step has a limit, and nothing waits for them.

use crate::base::network::NetWatch;
use crate::base::node::Node;
use bootwright_base::background;
use bootwright_base::firmware_uuid::FirmwareUuid;
use bootwright_contract::report::{BootReport, NetworkReport, REPORT_VERSION};
use bootwright_netconf::dns::{self, DnsError};
use bootwright_netconf::setup::NetworkFacts;
use bootwright_roots::http::message::format_post;
use bootwright_roots::http::{self, HttpError};
use bootwright_roots::source::{Host, Http, Source, parse_source};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Pause between two looks at the timeline.
const LOOK: Duration = Duration::from_millis(500);
/// The same before the first report: people who watch a rack want to see each machine early.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// A report is sent after so long even without changes.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// Limit for each step: looking up, connecting, sending, receiving.
const STEP: Duration = Duration::from_secs(3);
/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Stack of the thread in bytes, mostly for DNS.
const STACK: usize = 128 << 10;

#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error("only http:// is possible")]
    NotHttp,
    #[error("DHCP named no boot server, and it names none")]
    NoBootServer,
    #[error(transparent)]
    LookUp(#[from] DnsError),
    #[error("no address")]
    NoAddress,
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// Starts the thread if a report URL is given.
pub fn spawn(node: &Arc<Node>, network: NetWatch) {
    let asked = node.cmdline.value("bw.report").or(node.config.report.as_deref());
    let Some(url) = asked.filter(|url| *url != "0").map(String::from) else { return };
    let say = |reason: &str| node.timeline.note(&["no reports to `", &url, "`: ", reason].concat());
    let target = match parse_source(&url) {
        Ok(Source::Http(target)) if !target.tls => target,
        Ok(_) => return say(&ReportError::NotHttp.to_string()),
        Err(error) => return say(&error.to_string()),
    };
    let for_thread = node.clone();
    if let Err(error) = background::spawn_small("report", STACK, Box::new(move || run(&for_thread, &network, &target)))
    {
        say(&error.to_string());
    }
}

/// Reports as long as the machine runs.
fn run(node: &Node, network: &NetWatch, target: &Http) {
    let uuid = fs::read_to_string("/sys/class/dmi/id/product_uuid").ok();
    let uuid = uuid.map(|text| text.trim().to_ascii_lowercase()).filter(|text| FirmwareUuid::parse(text).is_some());
    let (mut sent, mut at, mut failures) = (None, Instant::now(), 0u32);
    loop {
        sleep(if sent.is_some() { LOOK } else { FIRST_LOOK });
        let state = network.state();
        let changes = node.timeline.changes();
        if !state.up || (sent == Some(changes) && at.elapsed() < HEARTBEAT) {
            continue;
        }
        let report = BootReport {
            version: REPORT_VERSION,
            uuid: uuid.clone(),
            network: Some(network_report(&state.facts)),
            timeline: node.timeline.snapshot(),
        };
        let Ok(body) = serde_json::to_string(&report) else { return };
        at = Instant::now();
        match send(target, &state.facts, &body) {
            Ok(()) => (sent, failures) = (Some(changes), 0),
            Err(error) => {
                if failures == 0 {
                    node.timeline.note(&["cannot report how far the boot is: ", &error.to_string()].concat());
                }
                failures = failures.saturating_add(1);
                sleep(pause(failures));
            }
        }
    }
}

/// 1, 2, 4 ... seconds, up to [`LONGEST_PAUSE`].
fn pause(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(LONGEST_PAUSE)
}

fn network_report(facts: &NetworkFacts) -> NetworkReport {
    NetworkReport {
        hostname: facts.hostname.clone(),
        interface: facts.interface.clone(),
        ip: facts.ip.map(|ip| ip.to_string()),
        mac: facts.mac.clone(),
    }
}

fn send(target: &Http, facts: &NetworkFacts, body: &str) -> Result<(), ReportError> {
    let host = match &target.host {
        Host::Address(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
        Host::BootServer => facts.boot_host().ok_or(ReportError::NoBootServer)?,
    };
    let address = dns::resolve(&host, facts, STEP)?.into_iter().next().ok_or(ReportError::NoAddress)?;
    post(SocketAddr::new(address, target.port), &host_header(&host, address, target.port), &target.path, body)
}

/// The Host header. An IPv6 address stands in brackets (RFC 9112 section 3.2).
fn host_header(host: &str, address: IpAddr, port: u16) -> String {
    let bare = address.is_ipv6() && host.contains(':') && !host.starts_with('[');
    let (open, close) = if bare { ("[", "]") } else { ("", "") };
    [open, host, close, ":", &port.to_string()].concat()
}

/// Sends a report. Every status of 2xx is a success.
fn post(server: SocketAddr, host: &str, path: &str, body: &str) -> Result<(), ReportError> {
    match http::exchange(http::connect(server, STEP, STEP)?, &format_post(host, path, body))? {
        200..300 => Ok(()),
        status => Err(HttpError::Status { status }.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    /// Answers one request; gives back what was asked.
    fn server(answer: &'static str) -> (u16, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 4096];
            let length = stream.read(&mut request).expect("a request");
            stream.write_all(answer.as_bytes()).expect("a reader");
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (port, thread)
    }

    #[test]
    fn a_post_to_the_boot_server() {
        let (port, thread) = server("HTTP/1.1 204 No Content\r\n\r\n");
        let url = ["http://:", &port.to_string(), "/report"].concat();
        let Ok(Source::Http(target)) = parse_source(&url) else { panic!("{url}") };
        let facts = NetworkFacts { boot_server: Some("127.0.0.1".into()), ..NetworkFacts::default() };
        send(&target, &facts, "{}").expect("it is taken");
        let asked = thread.join().expect("served");
        let head = format!("POST /report HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n");
        assert!(
            asked.starts_with(&head) && asked.ends_with("Content-Length: 2\r\nConnection: close\r\n\r\n{}"),
            "{asked}"
        );
        assert!(matches!(send(&target, &NetworkFacts::default(), "{}"), Err(ReportError::NoBootServer)));
    }

    #[test]
    fn other_answers_are_failures() {
        for (answer, reason) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n", "the server answered 404 (not found)"),
            ("SSH-2.0-dropbear\r\n\r\n", "there is no web server"),
            ("", "the server closed the connection before the end"),
        ] {
            let (port, thread) = server(answer);
            let error = post(SocketAddr::new([127, 0, 0, 1].into(), port), "h", "/r", "x").expect_err(answer);
            assert_eq!(error.to_string(), reason);
            thread.join().expect("served");
        }
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let pauses: Vec<u64> = [1, 2, 3, 7, 100].map(|failures| pause(failures).as_secs()).into();
        assert_eq!(pauses, [1, 2, 4, 60, 60]);
    }

    #[test]
    fn hosts_of_ipv6_are_in_brackets() {
        let v6 = "2001:db8::1".parse().expect("an address");
        assert_eq!(host_header("2001:db8::1", v6, 80), "[2001:db8::1]:80");
        assert_eq!(host_header("boot.lab", v6, 80), "boot.lab:80");
    }
}
