//! `bootwright serve`: files, reports, the page, dnsmasq, and the end.

#[path = "serve/hostile.rs"]
mod hostile;
#[path = "serve/odd.rs"]
mod odd;
#[path = "serve/outside.rs"]
mod outside;
#[path = "serve/registry.rs"]
mod registry;

use serde_json::json;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testkit::need::{can, have};
use testkit::serve::Serve;

const NODES: &str = r#"
[[node]]
name = "n1"
mac = "52:54:00:00:00:01"
recipe = "worker"
"#;

fn lab() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("out/worker");
    std::fs::create_dir_all(&image).unwrap();
    let manifest = json!({
        "schema": 1, "recipe": "worker", "summary": "a test", "image_id": "0123456789abcdef", "time": 0,
        "kernel_release": "6.12", "kernel_component": "kernel", "cmdline": ["console=tty0"],
        "boot_files": [{ "path": "vmlinuz", "size": 10, "sha256": "00".repeat(32) }],
        "segments": [], "sources": [], "tools": {}, "files": [],
    });
    std::fs::write(image.join("manifest.json"), manifest.to_string()).unwrap();
    std::fs::write(image.join("vmlinuz"), "0123456789").unwrap();
    std::fs::write(dir.path().join("nodes.toml"), NODES).unwrap();
    // The tree of an NFS root, with a link that means the node's own `/run`.
    std::fs::create_dir(image.join("root")).unwrap();
    std::fs::write(image.join("root/secret"), "secret").unwrap();
    std::fs::write(dir.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(dir.path(), image.join("root/run")).unwrap();
    dir
}

fn report(outcome: &str) -> String {
    json!({
        "version": 1, "uuid": null,
        "network": { "hostname": "n1", "interface": "eth0", "mac": "52:54:00:00:00:01", "ip": "192.0.2.1" },
        "timeline": {
            "version": 1, "recipe": "worker", "image_id": "0123456789abcdef", "services": [],
            "phases": [{ "name": "root", "start_s": 1.0, "end_s": 1.25, "outcome": outcome }],
        },
    })
    .to_string()
}

#[test]
fn files_reports_and_the_page() {
    let lab = lab();
    let mut serve = Serve::start(lab.path(), &[]);
    let file = serve.ask("GET /worker/vmlinuz HTTP/1.1\r\nRange: bytes=2-4", "");
    assert!(file.starts_with("HTTP/1.1 206") && file.contains("\r\nEtag: ") && file.ends_with("\r\n234"), "{file}");
    assert!(serve.ask("GET /boot/nodes/n1.ipxe HTTP/1.1", "").contains("/worker/boot.ipxe"));
    assert_eq!(serve.node("n1")["stage"], "loading");
    assert!(serve.ask("POST /report HTTP/1.1", &report("no luck")).starts_with("HTTP/1.1 204"));
    let node = serve.node("n1");
    assert_eq!((node["stage"].as_str(), node["detail"].as_str()), (Some("failed"), Some("phase root failed: no luck")));
    let status = serve.status();
    assert_eq!(status["images"][0]["summary"], "a test");
    assert_eq!(status["images"][0]["boot_bytes"], 10);
    for (head, body, expected) in [
        ("POST /report HTTP/1.1", "{", "HTTP/1.1 400"),
        ("POST /report HTTP/1.1", &"1".repeat(300_000), "HTTP/1.1 413"),
        ("GET /report HTTP/1.1", "", "HTTP/1.1 405"),
        ("POST /worker/vmlinuz HTTP/1.1", "", "HTTP/1.1 405"),
        ("GET /../nodes.toml HTTP/1.1", "", "HTTP/1.1 404"),
    ] {
        let answer = serve.ask(head, body);
        assert!(answer.starts_with(expected), "{head}: {answer}");
    }
    let page = serve.ask("GET / HTTP/1.1", "");
    let policy = "Content-Security-Policy: default-src 'none'";
    assert!(page.contains("<h1>bootwright</h1>") && page.contains(policy), "{page}");
    assert!(!page.contains("http://") && !page.contains("https://"), "the page needs nothing from elsewhere");
    let log = serve.wait_for_log("127.0.0.1 GET /worker/vmlinuz (bytes=2-4) 206 3\n");
    assert!(!log.contains("status.json"), "the page's own questions are no news: {log}");
    assert_eq!(interrupt(&mut serve), Some(0), "{}", serve.log());
}

/// Asks it to end, as Ctrl-C does; its exit code.
fn interrupt(serve: &mut Serve) -> Option<i32> {
    let pid = serve.child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match serve.child.try_wait().unwrap() {
            Some(status) => return status.code(),
            None => assert!(Instant::now() < deadline, "it does not end: {}", serve.log()),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Of a request whose body is said to be so long, and never comes.
fn asks_without_its_body(port: u16, head: &str, length: usize) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(format!("{head}\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_body_that_never_comes_is_late_or_too_large_by_what_was_said_of_it() {
    let lab = lab();
    let serve = Serve::start(lab.path(), &[]);
    // They wait beside each other.
    let asked = [("GET / HTTP/1.1", 9), ("POST /report HTTP/1.1", 300_000), ("POST /report HTTP/1.1", 300)].map(
        |(head, length)| {
            std::thread::spawn({
                let port = serve.port;
                move || asks_without_its_body(port, head, length)
            })
        },
    );
    let answers = asked.map(|asked| asked.join().unwrap());
    for (answer, expected) in answers.iter().zip(["413", "413", "408"]) {
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{expected}: {answer}");
    }
}

#[test]
fn a_port_that_is_taken_is_told() {
    let lab = lab();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let mut tool = assert_cmd::Command::new(testkit::tool::tool_path());
    let run = tool.current_dir(lab.path()).args(["serve", "--listen", &listen]).assert().code(1);
    let said = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    assert!(said.contains(&format!("cannot listen on {listen}")) && said.contains("take another port"), "{said}");
}

/// The page in a browser: what its script makes of the status, also of what no honest node sends.
#[test]
fn the_page_shows_nodes_in_a_browser() {
    if !have(&["chromium"]) {
        return;
    }
    let lab = lab();
    let serve = Serve::start(lab.path(), &["-v"]);
    serve.ask("POST /report HTTP/1.1", &report("<b>no luck</b>"));
    let hostile = odd::hostile();
    for (i, (_, body)) in hostile.iter().enumerate() {
        let body = body.replace("00:00:01", &format!("00:01:{i:02x}"));
        assert!(serve.ask("POST /report HTTP/1.1", &body).starts_with("HTTP/1.1 204"), "{body:.200}");
    }
    let url = format!("http://127.0.0.1:{}/", serve.port);
    let page = browse(&["--virtual-time-budget=3000", "--dump-dom", &url]);
    let nodes = 1 + hostile.len();
    assert!(page.contains(&format!("1 image, {nodes} nodes: 0 up, 1 failed")), "{page}");
    assert!(page.contains("role=\"alert\" hidden"), "nothing stops its script: {page}");
    assert!(page.contains("&lt;b&gt;no luck&lt;/b&gt;"), "text stays text: {page}");
    assert!(page.contains(">root</bdi>: <bdi>&lt;b&gt;"), "{page}");
    let rows = page.split("<tbody").nth(1).and_then(|rest| rest.split("</tbody>").next()).unwrap_or_default();
    assert_eq!(rows.matches("<tr>").count(), nodes, "{rows}");
    for made in ["<script", "<img", "<b>", "<iframe", "\u{202e}", "\u{1b}"] {
        assert!(!rows.contains(made), "{made:?}: {rows}");
    }
    let asked = serve.log().matches("GET /status.json 200").count();
    assert!(asked > 1, "the page renews itself, and asked {asked} times");
    // For people: what it looks like.
    for (name, scheme) in [("dark", 0), ("light", 1)] {
        let to = testkit::folders::work_folder().join(format!("page-{name}.png"));
        let _ = std::fs::remove_file(&to);
        let scheme = format!("--blink-settings=preferredColorScheme={scheme}");
        let shot = format!("--screenshot={}", to.display());
        browse(&["--virtual-time-budget=3000", "--window-size=1280,1400", &scheme, &shot, &url]);
        assert!(std::fs::metadata(&to).is_ok_and(|file| file.len() > 10_000), "{}", to.display());
    }
}

fn browse(args: &[&str]) -> String {
    let mut command = assert_cmd::Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu"]).args(args);
    let output = command.timeout(Duration::from_secs(120)).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_interface_that_is_not_there_is_told_beside_those_that_are() {
    let lab = lab();
    let mut tool = assert_cmd::Command::new(testkit::tool::tool_path());
    tool.current_dir(lab.path()).args(["serve", "--interface", "nothere0", "--proxy", "192.0.2.0"]);
    let said = String::from_utf8_lossy(&tool.assert().code(2).get_output().stderr).into_owned();
    assert!(said.contains("there is no network interface `nothere0`") && said.contains(" lo"), "{said}");
}

/// A network of its own, with a machine's side and a server's side: proxyDHCP and DHCP need interfaces and root's ports.
#[test]
fn dnsmasq_runs_with_the_configuration_and_ends_with_the_tool() {
    if !have(&["dnsmasq", "ip", "unshare", "nsenter", "busybox"]) || !may_make_networks() {
        return;
    }
    let lab = lab();
    let loaders = lab.path().join("loaders");
    std::fs::create_dir(&loaders).unwrap();
    for name in ["undionly.kpxe", "ipxe.efi"] {
        std::fs::write(loaders.join(name), name).unwrap();
    }
    for (dhcp, expected, signal, code) in [
        ("--dhcp-range 192.0.2.100,192.0.2.199", "DHCP, IP range 192.0.2.100 -- 192.0.2.199", "INT", Some(0)),
        ("--proxy 192.0.2.0", "DHCP, proxy on subnet 192.0.2.0", "KILL", None),
    ] {
        let script = format!(
            "ip link set lo up && ip link add boot0 type veth peer name boot1 && ip address add 192.0.2.1/24 dev boot0 && ip link set boot0 up && ip link set boot1 up \
             && exec {} serve --listen 192.0.2.1:8080 --interface boot0 {dhcp} --loaders {}",
            testkit::tool::tool_path().display(),
            loaders.display()
        );
        let log = lab.path().join("log");
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", &script])
            .current_dir(lab.path())
            .stderr(std::fs::File::create(&log).unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let said = || std::fs::read_to_string(&log).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !said().contains(expected) || !said().contains("TFTP root is") {
            assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "{}", said());
            std::thread::sleep(Duration::from_millis(50));
        }
        if dhcp.starts_with("--dhcp-range") {
            check_loaders(child.id(), &lab);
        }
        let started = below(child.id());
        assert!(started.iter().any(|pid| program(*pid).ends_with("/dnsmasq")), "{started:?}");
        assert!(Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), code, "{}", said());
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Some(pid) = started.iter().find(|pid| !program(**pid).is_empty()) {
            assert!(Instant::now() < deadline, "{} outlived the tool", program(*pid));
            std::thread::sleep(Duration::from_millis(20));
        }
        let config = std::fs::read_to_string(lab.path().join("out/boot/dnsmasq.conf")).unwrap();
        assert!(config.contains("http://192.0.2.1:8080/boot/boot.ipxe"), "{config}");
    }
}

/// The processes that a process has started, and those that they have.
fn below(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().map(|child| child.parse().unwrap());
    children.flat_map(|child| std::iter::once(child).chain(below(child))).collect()
}

/// What a process runs; empty when it is gone, or a zombie that nobody has taken yet (proc(5), `cmdline`).
fn program(pid: u32) -> String {
    let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.split('\0').next().unwrap_or_default().into()
}

/// What machines of each kind (option 93) are told to load, from inside the network of a process. iPXE is known by its option 175.
fn check_loaders(pid: u32, lab: &TempDir) {
    let inside = |args: &[&str]| {
        let mut command = assert_cmd::Command::new("nsenter");
        command.current_dir(lab.path()).args(["-t", &pid.to_string(), "-n", "busybox"]).args(args);
        let output = command.timeout(Duration::from_secs(60)).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let script = lab.path().join("bound");
    std::fs::write(&script, "#!/bin/sh\n[ \"$1\" != bound ] || echo \"file $boot_file from $siaddr $vendor\"\n")
        .unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for (machine, expected) in [
        (&["-x", "0x5d:0000"][..], "file undionly.kpxe from 192.0.2.1 \n"),
        (&["-x", "0x5d:0007"], "file ipxe.efi from 192.0.2.1 \n"),
        (&["-x", "0x5d:0009"], "file ipxe.efi from 192.0.2.1 \n"),
        (
            &["-x", "0x5d:0010", "-V", "HTTPClient:Arch:00016"],
            "file http://192.0.2.1:8080/loaders/ipxe.efi from 192.0.2.1 HTTPClient\n",
        ),
        (&["-x", "0x5d:0000", "-x", "0xaf:01"], "file http://192.0.2.1:8080/boot/boot.ipxe from 192.0.2.1 \n"),
    ] {
        let client = ["udhcpc", "-i", "boot1", "-n", "-q", "-f", "-t", "10", "-T", "1", "-s", "./bound"];
        let said = inside(&[&client[..], machine].concat());
        assert!(said.ends_with(expected), "{machine:?}: {said}");
    }
    let fetch = |path: &str| {
        let to = lab.path().join("loaded");
        let _ = std::fs::remove_file(&to);
        inside(&["tftp", "-g", "-r", path, "-l", "loaded", "192.0.2.1"]);
        std::fs::read_to_string(to).unwrap_or_default()
    };
    assert_eq!(fetch("undionly.kpxe"), "undionly.kpxe");
    assert_eq!(fetch("worker/vmlinuz"), "0123456789");
    assert!(fetch("boot/boot.ipxe").starts_with("#!ipxe"));
    for path in ["worker/manifest.json", "worker/root/secret", "worker/root/run/secret", "boot/chain.json"] {
        assert_eq!(fetch(path), "", "{path}");
    }
}

/// dnsmasq changes its user, which a namespace of a mere user forbids; containers often forbid namespaces at all.
fn may_make_networks() -> bool {
    let made = Command::new("unshare").args(["--net", "ip", "link", "add", "x0", "type", "veth"]).output();
    can(made.is_ok_and(|output| output.status.success()), "root for network namespaces")
}
