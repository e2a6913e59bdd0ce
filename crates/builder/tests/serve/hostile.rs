//! Clients that want others not to be served: by many connections, by much, and by taking their time.
//!
//! Every address of 127.0.0.0/8 is another client. What a real node does comes from 127.0.0.1, unless a test says otherwise.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use testkit::layout::{INDEX, add_entry, descriptor, put_blob};
use testkit::serve::Serve;

const NODE: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// In which a real node's files come.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Of the server's memory, kB.
const MOST_KB: u64 = 128 << 10;
/// What the real node loads.
const KERNEL_BYTES: usize = 4 << 20;
/// Held by a test while it measures: the tests of this file are each other's load otherwise.
static ALONE: Mutex<()> = Mutex::new(());

fn connect(port: u16, from: Ipv4Addr) -> TcpStream {
    connect_with(port, from, |_| {})
}

fn connect_with(port: u16, from: Ipv4Addr, set_up: impl Fn(&Socket)) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    set_up(&socket);
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect_timeout(&SocketAddr::from((NODE, port)).into(), Duration::from_secs(20)).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(50))).unwrap();
    stream
}

/// Connections that send `head` and nothing else. Where the server has ended one at once, that is its right.
fn hold(port: u16, from: impl Iterator<Item = Ipv4Addr>, head: &str) -> Vec<TcpStream> {
    from.map(|from| {
        let mut stream = connect(port, from);
        let _ = stream.write_all(head.as_bytes());
        stream
    })
    .collect()
}

fn fetch(port: u16, from: Ipv4Addr, path: &str) -> Vec<u8> {
    let mut stream = connect(port, from);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{path}: {}",
        String::from_utf8_lossy(&answer[..answer.len().min(300)])
    );
    answer
}

/// What a node's loader fetches comes whole and at once. Whoever asked before was let in by then, so that what is measured is what
/// they hold, and not how fast this test calls.
fn node_boots(port: u16, from: Ipv4Addr) {
    fetch(port, from, "/boot/boot.ipxe");
    for (path, bytes) in [("/boot/boot.ipxe", 0), ("/boot/nodes/n1.ipxe", 0), ("/worker/vmlinuz", KERNEL_BYTES)] {
        let begin = Instant::now();
        let answer = fetch(port, from, path);
        let took = begin.elapsed();
        println!("{path} from {from}: {took:?}");
        assert!(answer.len() > bytes && took < AT_ONCE, "{path} came in {took:?}, {} bytes", answer.len());
    }
}

fn post(port: u16, from: Ipv4Addr, report: &str) -> String {
    let mut stream = connect(port, from);
    let length = report.len();
    let head = format!("POST /report HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    let mut answer = String::new();
    // A server that has had enough ends the connection, be it while something is sent.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(report.as_bytes()));
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn alone() -> impl Sized {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A report of 239 kB, of texts that take as much as they can.
fn largest(mac: &str) -> String {
    let name = |i: usize| format!("{i}-{}", "\"\\ß".repeat(30));
    let phases: Vec<Value> =
        (0..400).map(|i| json!({ "name": name(i), "start_s": 1.0, "end_s": 1.25, "outcome": name(i) })).collect();
    let services: Vec<Value> =
        (0..180).map(|i| json!({ "name": name(i), "start_s": 1.0, "ready_s": null, "restarts": i })).collect();
    let report = json!({
        "version": 1, "uuid": null, "network": { "hostname": name(0), "interface": "eth0", "mac": mac, "ip": "192.0.2.1" },
        "timeline": { "version": 1, "recipe": name(0), "image_id": "0123456789abcdef", "phases": phases, "services": services },
    })
    .to_string();
    assert!((200_000..256 << 10).contains(&report.len()), "{}", report.len());
    report
}

fn stranger(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 1, 0).to_bits() + n)
}

fn memory_kb(serve: &Serve) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", serve.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// A server in a lab whose kernel takes a while, and room for this process to be many clients.
fn lab(args: &[&str]) -> (tempfile::TempDir, Serve) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(20_000), hard).unwrap();
    let lab = crate::lab();
    std::fs::write(lab.path().join("out/worker/vmlinuz"), vec![b'k'; KERNEL_BYTES]).unwrap();
    let serve = Serve::start(lab.path(), args);
    (lab, serve)
}

#[test]
fn two_thousand_connections_that_ask_for_nothing_hold_up_nobody() {
    let _alone = alone();
    let (_lab, serve) = lab(&[]);
    let mut held = hold(serve.port, (0..1000).map(|_| stranger(0)), "");
    held.extend(hold(serve.port, (0..1000).map(|_| stranger(0)), "GET /worker/vmlinuz HTTP/1.1\r\nHost: "));
    node_boots(serve.port, NODE);
    // The same from so many addresses that none of them has many.
    held.extend(hold(serve.port, (1..=1000).map(stranger), ""));
    held.extend(hold(serve.port, (1..=1000).map(stranger), "POST /report HTTP/1.1\r\nContent-Length: 200000\r\n\r\n{"));
    node_boots(serve.port, NODE);
    assert!(memory_kb(&serve) < MOST_KB, "{} kB", memory_kb(&serve));
}

/// Machines behind one NAT cannot be told from each other. What holds: who asks is answered, though others ask for nothing.
#[test]
fn behind_one_address_who_asks_is_answered() {
    let _alone = alone();
    let (_lab, serve) = lab(&[]);
    let mut held = hold(serve.port, (0..1000).map(|_| NODE), "");
    held.extend(hold(serve.port, (0..1000).map(|_| NODE), "GET /worker/vmlinuz HTTP/1.1\r\nHost: "));
    node_boots(serve.port, NODE);
    assert!(memory_kb(&serve) < MOST_KB, "{} kB", memory_kb(&serve));
}

#[test]
fn a_thousand_made_up_nodes_with_the_largest_reports_leave_room_for_the_known_one() {
    let _alone = alone();
    let (_lab, serve) = lab(&[]);
    let port = serve.port;
    let outcome = |serve: &Serve| {
        let node = &serve.status()["nodes"][0];
        assert_eq!((node["name"].as_str(), node["known"].as_bool()), (Some("n1"), Some(true)));
        node["stage"].as_str().unwrap_or_default().to_string()
    };
    let report = largest("MAC");
    std::thread::scope(|scope| {
        let report = &report;
        for client in 0..4u32 {
            scope.spawn(move || {
                for n in 0..250 {
                    let mac = format!("52:54:01:{client:02x}:00:{n:02x}");
                    // Half of them from an address of their own.
                    let from = if n % 2 == 0 { stranger(client) } else { stranger(1000 + client * 250 + n) };
                    let answer = post(port, from, &report.replace("MAC", &mac));
                    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
                }
            });
        }
    });
    assert_eq!(outcome(&serve), "unseen");
    node_boots(port, NODE);
    assert!(post(port, NODE, &crate::report("no luck")).starts_with("HTTP/1.1 204"));
    let begin = Instant::now();
    assert_eq!(outcome(&serve), "failed");
    assert!(begin.elapsed() < AT_ONCE * 2, "the page asks once a second: {:?}", begin.elapsed());
    // A stranger that sends little has its place beside those that send much.
    let other = crate::report("ok").replace("00:00:01", "00:00:99");
    assert!(post(port, stranger(0xffff), &other).starts_with("HTTP/1.1 204"));
    assert_eq!(serve.node("52:54:00:00:00:99")["known"], false);
    println!("{} kB, status.json {} bytes", memory_kb(&serve), serve.ask("GET /status.json HTTP/1.1", "").len());
    assert!(memory_kb(&serve) < MOST_KB, "{} kB", memory_kb(&serve));
}

/// A manifest is hashed before it is handed out, so the largest cost the most.
#[test]
fn who_asks_the_registry_for_the_largest_manifests_holds_up_no_node() {
    let _alone = alone();
    let (lab, serve) = lab(&[]);
    let port = serve.port;
    let layout = lab.path().join("out/registry/large");
    let manifest = r#"{"schemaVersion":2,"manifests":[]}"#;
    let manifest = format!("{manifest}{}", " ".repeat((4 << 20) - manifest.len()));
    let digest = put_blob(&layout, manifest.as_bytes());
    add_entry(&layout, ("org.opencontainers.image.ref.name", "v1"), descriptor(INDEX, manifest.as_bytes()));
    let found = || serve.ask("HEAD /v2/large/manifests/v1 HTTP/1.1", "").starts_with("HTTP/1.1 200");
    testkit::running::wait_until("the layout is found", Duration::from_secs(10), found);
    let asks = |path: &str| format!("GET /v2/large/{path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut held = hold(port, (0..600).map(|n| stranger(n / 10)), &asks("manifests/v1"));
    held.extend(hold(port, (0..600).map(|n| stranger(n / 10)), &asks(&format!("blobs/sha256:{digest}"))));
    node_boots(port, NODE);
    let whole = fetch(port, NODE, "/v2/large/manifests/v1");
    assert!(whole.len() > manifest.len(), "{}", whole.len());
    assert!(memory_kb(&serve) < MOST_KB, "{} kB", memory_kb(&serve));
}

/// Who asks for all and takes nothing.
#[test]
fn slow_readers_hold_up_nobody_and_cost_little() {
    let _alone = alone();
    let (_lab, serve) = lab(&[]);
    let port = serve.port;
    let _held = hold(port, (0..1500).map(|n| stranger(n / 10)), "GET /worker/vmlinuz HTTP/1.1\r\nHost: x\r\n\r\n");
    node_boots(port, NODE);
    assert_eq!(serve.node("n1")["stage"], "loading");
    // Answers that are under way have come as far as they come.
    std::thread::sleep(Duration::from_secs(1));
    println!("{} kB", memory_kb(&serve));
    assert!(memory_kb(&serve) < MOST_KB, "{} kB", memory_kb(&serve));
}

/// The page's document is another one after each report. Whoever takes one slowly must not make the server keep it.
#[test]
fn slow_readers_of_a_document_that_changes_cost_little() {
    let _alone = alone();
    let (_lab, serve) = lab(&[]);
    let port = serve.port;
    let report = largest("MAC");
    let told = |n: u32| {
        post(port, stranger(n), &report.replace("MAC", &format!("52:54:02:00:{:02x}:{:02x}", n >> 8, n & 255)))
    };
    for n in 0..900 {
        told(n);
    }
    let mut held = Vec::new();
    let begin = Instant::now();
    for n in 0..120 {
        // The kernel's buffers for it are small, so that the server has to keep what is not taken.
        let mut stream = connect_with(port, stranger(5000 + n), |socket| socket.set_recv_buffer_size(2048).unwrap());
        stream.write_all(b"GET /status.json HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        held.push(stream);
        told(n);
        // No more than ten documents are made in a second.
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("{} kB after {:?}", memory_kb(&serve), begin.elapsed());
    node_boots(port, NODE);
    assert!(memory_kb(&serve) < MOST_KB, "{} kB", memory_kb(&serve));
}

/// Seconds until the server ends a connection on which a byte of `drip` is sent each second.
fn ended_after(mut stream: TcpStream, drip: &str) -> f64 {
    let begin = Instant::now();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut drip = drip.bytes().cycle();
    loop {
        if let Some(byte) = drip.next() {
            // The answer below says whether it was taken.
            let _ = stream.write_all(&[byte]);
        }
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return begin.elapsed().as_secs_f64(),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return begin.elapsed().as_secs_f64(),
        }
        assert!(begin.elapsed() < Duration::from_secs(50), "it is never ended");
    }
}

#[test]
fn who_takes_too_long_is_shown_out() {
    let (_lab, serve) = lab(&[]);
    let port = serve.port;
    let cases = [
        ("", "", 14.0..25.0),
        ("GET /worker/vmlinuz HTTP/1.1\r\nX: ", "x", 14.0..25.0),
        ("GET /boot/boot.ipxe HTTP/1.1\r\nHost: x\r\n\r\n", "", 14.0..25.0),
        ("POST /report HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n", "1", 19.0..30.0),
        ("POST /report HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n", 19.0..30.0),
    ];
    std::thread::scope(|scope| {
        for (i, (head, drip, expected)) in cases.into_iter().enumerate() {
            let stream = hold(port, std::iter::once(stranger(i as u32)), head).remove(0);
            scope.spawn(move || {
                let after = ended_after(stream, drip);
                assert!(expected.contains(&after), "{head:?}: after {after} s");
            });
        }
        scope.spawn(|| {
            let mut slow = hold(port, std::iter::once(stranger(9)), "GET /worker/vmlinuz HTTP/1.1\r\n\r\n").remove(0);
            let begin = Instant::now();
            let mut bytes = [0; 1024];
            // A kilobyte a second, until the server's end is closed: what its kernel held comes first then, and is too little.
            while begin.elapsed() < Duration::from_secs(36) {
                slow.read_exact(&mut bytes).unwrap();
                std::thread::sleep(Duration::from_secs(1));
            }
            let mut rest = Vec::new();
            let ended = slow.read_to_end(&mut rest);
            assert!(rest.len() < KERNEL_BYTES - (64 << 10), "{ended:?}: it got {} bytes more", rest.len());
        });
    });
    let _alone = alone();
    node_boots(port, NODE);
}

#[test]
fn a_terminal_that_shows_nothing_holds_up_nobody() {
    let lab = crate::lab();
    let port = std::net::TcpListener::bind((NODE, 0)).unwrap().local_addr().unwrap().port();
    let listen = format!("{NODE}:{port}");
    let mut command = Command::new(testkit::tool::tool_path());
    command.current_dir(lab.path()).args(["serve", "--listen", &listen]).stdin(Stdio::null()).stdout(Stdio::null());
    // Nobody reads it, as when Ctrl-S stopped the terminal.
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect((NODE, port)).is_err() {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(20));
    }
    // A pipe holds 64 kB, pipe(7).
    let long = format!("/boot/{}", "x".repeat(180));
    let mut stream = connect(port, NODE);
    for _ in 0..600 {
        stream.write_all(format!("GET {long} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 404");
        let mut rest = Vec::new();
        while !rest.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            rest.push(byte[0]);
        }
    }
    fetch(port, NODE, "/worker/vmlinuz");
    child.kill().unwrap();
    child.wait().unwrap();
}
