//! A root image from a web server: fetched through whatever the server does, and told when it is not the right one.

use crate::outage::{self, Kubelet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use testkit::http::{PageServer as Web, Step};
use testkit::image::Image;
use testkit::machine::{Card, Machine};
use testkit::server::ServerProcess;
use testkit::ssh::power_off;
use testkit::vm::{Outcome, Running, smoke, wait_until};
use testkit::{QEMU, load, need::have};

/// A server from elsewhere that knows no ranges.
const PYTHON: &str = "python3";

/// Time for a boot, with what the servers of these tests keep it waiting.
const DEADLINE: &str = "180";

fn image() -> Image {
    Image::build_with_root("rescue", "http", &[])
}

/// The URL as the guest sees it.
fn root(url: &str) -> String {
    format!("bw.root={}", url.replace("127.0.0.1", "10.0.2.2"))
}

fn boot(image: &Image, words: &str, deadline_s: &str) -> Outcome {
    smoke(image, &["--append", words, "--deadline-s", deadline_s])
}

fn disk(image: &Image) -> Vec<u8> {
    std::fs::read(image.dir().join("root.img")).expect("the image was built")
}

fn python(folder: &Path) -> ServerProcess {
    let folder = folder.to_str().expect("cargo's folders are UTF-8");
    ServerProcess::start(&[PYTHON, "-m", "http.server", "--bind", "127.0.0.1", "--directory", folder, "{port}"])
}

#[test]
fn kubelet_is_healthy_and_stays_so_without_the_server() {
    if !have(&[QEMU, PYTHON, "go", "ssh", "ssh-keygen"]) {
        return;
    }
    let image = outage::worker("http");
    let mut server = python(&image.dir());
    let words = root(&format!("http://127.0.0.1:{}/root.img", server.port));
    let machine = Running::start(&image, &["--append", &words, "--deadline-s", DEADLINE]);
    eprintln!("kubelet healthy after {:?} s", machine.uptime_s("service:kubelet"));
    let before = Kubelet::of(&machine);
    server.kill();
    let since = Instant::now();
    load::start(&machine, "/dev/loop0");
    while since.elapsed() < outage::AWAY {
        load::check(&machine, &image.dir().join("root.img"));
    }
    assert_eq!(Kubelet::of(&machine), before);
    power_off(machine);
    let console = image.console();
    assert!(console.contains("down poweroff") && !console.contains(" is lost"), "{console}");
}

#[test]
fn a_foreign_server_that_starts_late_and_knows_no_ranges() {
    if !have(&[QEMU, PYTHON]) {
        return;
    }
    let image = image();
    let mut server = python(&image.dir());
    server.kill();
    let words = root(&format!("http://127.0.0.1:{}/root.img", server.port));
    let outcome = std::thread::scope(|scope| {
        let booting = scope.spawn(|| boot(&image, &words, DEADLINE));
        let refused = || image.console().contains("Connection refused");
        wait_until("the guest has tried", Duration::from_secs(120), refused);
        std::thread::sleep(Duration::from_secs(20));
        server.restart();
        booting.join().expect("the boot was watched to its end")
    });
    outcome.assert_passed();
}

#[test]
fn broken_connections_busy_servers_and_redirects() {
    if !have(&[QEMU]) {
        return;
    }
    let image = image();
    let disk = disk(&image);
    let web = Web::start();
    let half = disk.len() / 2;
    let steps = [Step::StopAfter(half), Step::Status(503), Step::StallAfter(1000), Step::IgnoreRange];
    let url = web.page("/root.img", &disk, &steps);
    let moved = web.page("/moved", b"", &[Step::Redirect("/root.img".into())]);
    boot(&image, &root(&moved), DEADLINE).assert_passed();
    let asked: Vec<_> = web.asked().into_iter().filter(|asked| asked.path == "/root.img").collect();
    assert_eq!(asked.len(), 4, "{asked:#?}");
    assert_eq!(asked[1].range.as_deref(), Some(format!("bytes={half}-").as_str()), "{url}");
}

#[test]
fn what_is_wrong_is_told_and_the_next_source_is_tried() {
    if !have(&[QEMU]) {
        return;
    }
    let image = image();
    let disk = disk(&image);
    let web = Web::start();
    let good = web.page("/root.img", &disk, &[Step::Serve]);
    let missing = good.replace("root.img", "missing.img");
    let short = web.page("/short.img", &disk[..disk.len() / 2], &[Step::Serve]);
    let long = web.page("/long.img", &disk, &[Step::TooMuch(100)]);
    let mut bytes = disk.clone();
    bytes[disk.len() / 2] ^= 1;
    let damaged = web.page("/damaged.img", &disk, &[Step::Other(bytes)]);
    let words: Vec<String> = [&missing, &short, &long, &damaged, &good].into_iter().map(|url| root(url)).collect();
    let outcome = boot(&image, &words.join(" "), DEADLINE);
    outcome.assert_passed();
    let console = outcome.console();
    let size = format!("the server has a file of {} bytes, the root image has {}", disk.len() / 2, disk.len());
    let too_long = format!("the file has more than {} bytes", disk.len());
    let not_found = "missing.img`: the server answered 404 (not found)";
    for message in [not_found, &size, &too_long, "damaged.img` is damaged: its hash is "] {
        assert!(console.contains(message), "no {message:?} in {console}");
    }
    let outcome = boot(&image, &root(&missing), "25");
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    assert!(outcome.console().contains("phase root failed"), "{}", outcome.console());
}

/// A web server with TLS in a folder: program, port and the folder's `NAME.pem` with key and certificate.
const TLS_SERVER: &str = r#"
import http.server, ssl, sys
port, folder, pem = int(sys.argv[1]), sys.argv[2], sys.argv[3]
class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args):
        super().__init__(*args, directory=folder)
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(pem)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"#;

/// Key and certificate for what the guest takes the host for, in one file; gives the certificate.
fn certificate(folder: &Path, name: &str) -> String {
    let (key, cert) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.crt")));
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=lab -addext";
    let made = std::process::Command::new("openssl")
        .args(words.split(' '))
        .arg("subjectAltName=IP:10.0.2.2")
        .args([std::ffi::OsStr::new("-keyout"), key.as_os_str(), std::ffi::OsStr::new("-out"), cert.as_os_str()])
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |path: &Path| std::fs::read_to_string(path).expect("openssl wrote it");
    let (key, cert) = (read(&key), read(&cert));
    std::fs::write(folder.join(format!("{name}.pem")), format!("{key}{cert}")).expect("a new file");
    cert
}

/// An image that takes `good.pem` of the folder for a good certificate.
fn https_image() -> (PathBuf, Image) {
    // The same certificate for all runs: with another one the image would be built anew.
    let folder = testkit::folders::work_folder().join("https");
    std::fs::create_dir_all(&folder).expect("cargo's folder for tests is writable");
    let ca = match std::fs::read_to_string(folder.join("good.crt")) {
        Ok(ca) => ca,
        Err(_) => certificate(&folder, "good"),
    };
    (folder, Image::build_with_root("rescue", "http", &["https=true", &format!("https_ca={ca}")]))
}

#[test]
fn https_is_for_servers_with_a_good_certificate() {
    if !have(&[QEMU, PYTHON, "openssl", "go"]) {
        return;
    }
    let (folder, image) = https_image();
    certificate(&folder, "bad");
    let dir = image.dir();
    let serve = |name: &str| {
        let pem = folder.join(format!("{name}.pem"));
        let words = [dir.to_str().expect("UTF-8"), pem.to_str().expect("UTF-8")];
        ServerProcess::start(&[PYTHON, "-c", TLS_SERVER, "{port}", words[0], words[1]])
    };
    let (bad, good) = (serve("bad"), serve("good"));
    let url = |server: &ServerProcess| root(&format!("https://127.0.0.1:{}/root.img", server.port));
    let outcome = boot(&image, &format!("{} {}", url(&bad), url(&good)), DEADLINE);
    outcome.assert_passed();
    let console = outcome.console();
    assert!(console.contains("the server's certificate is not good: x509: certificate signed by unknown"), "{console}");
    let outcome = boot(&self::image(), &url(&good), "25");
    assert!(outcome.console().contains("this image has no program for https"), "{}", outcome.console());
}

/// Each try starts the program anew. A zombie is a task until it is reaped, so the kernel, which is given few tasks, soon starts none
/// any more if they stay.
#[test]
fn programs_for_https_leave_no_zombies_while_the_server_refuses() {
    if !have(&[QEMU, "openssl", "go"]) {
        return;
    }
    let (_, image) = https_image();
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = server.local_addr().expect("it listens").port();
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    // Ends with the test's process. A connection is closed as soon as it is there.
    std::thread::spawn(move || {
        for _ in server.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let words = format!("{} sysrq_always_enabled", root(&format!("https://127.0.0.1:{port}/root.img")));
    let await_tries = |wanted| {
        let first = tries.load(Ordering::Relaxed);
        wait_until("many tries", Duration::from_secs(90), || tries.load(Ordering::Relaxed) >= first + wanted);
    };
    let tasks = {
        let machine = Machine::start(&image, &words, &[Card::User]);
        await_tries(3);
        machine.sysrq(b't');
        machine.await_line("Sched Debug Version");
        machine.console().matches("task:").count()
    };
    assert!(tasks > 30, "the kernel lists its tasks: {tasks}");
    let few = format!("{words} sysctl.kernel.threads-max={}", tasks + SPARE_TASKS);
    let machine = Machine::start(&image, &few, &[Card::User]);
    await_tries(3 * SPARE_TASKS);
    let console = machine.console();
    assert!(!console.contains("Resource temporarily unavailable") && !console.contains("os error 11"), "{console}");
}

/// So many more than the machine has while PID1 tries to reach its server. The kernel's own workers come and go.
const SPARE_TASKS: usize = 10;
