//! A root on an NFS server: boots, survives the loss of the server, goes down without it, and says what is wrong with it.

use crate::outage::{self, Kubelet, outage};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use testkit::ganesha::{GANESHA, Ganesha, is_root};
use testkit::image::Image;
use testkit::load::{self, READ_ALL};
use testkit::server::ServerProcess;
use testkit::ssh::{key, power_off, ssh, ssh_ok};
use testkit::vm::{Running, runs, smoke, wait_until};
use testkit::{QEMU, need::have};

const RPCBIND: &str = "rpcbind";
/// Recovery takes at most 5 s from the return of the server; the rest is for a busy machine.
const BACK_WITHIN: Duration = Duration::from_secs(8);

fn image() -> Image {
    Image::build_with_root("rescue", "nfs", &[&format!("ssh_key={}", key().public)])
}

fn ready(tools: &[&str]) -> bool {
    have(&[&[QEMU, GANESHA], tools].concat()) && is_root()
}

fn tree(image: &Image) -> PathBuf {
    // Of the folder itself: the test has a link.
    image.dir().join("root").canonicalize().expect("it was built")
}

fn serve(tree: &Path) -> Ganesha {
    Ganesha::start("4", &[(tree, "/root", "RO")])
}

fn root(server: &Ganesha) -> String {
    format!("bw.root=nfs://10.0.2.2:{}/root", server.server.port)
}

#[test]
fn kubelet_is_healthy_and_stays_so_without_the_server() {
    if !ready(&["go", "ssh", "ssh-keygen"]) {
        return;
    }
    let image = outage::worker("nfs");
    let mut server = serve(&tree(&image));
    let machine = Running::start(&image, &["--append", &root(&server), "--deadline-s", "300"]);
    eprintln!("kubelet healthy after {:?} s", machine.uptime_s("service:kubelet"));
    let before = Kubelet::of(&machine);
    // The shell is not of the tree.
    let read_all = READ_ALL.replace("-type f", "-type f ! -name sh");
    load::start_reading(&machine, &read_all.replace("BELOW", "/"));
    outage(&image, BACK_WITHIN, |up| if up { server.server.restart() } else { server.server.kill() });
    load::check_reading(&machine, &load::read_here(&read_all, &tree(&image)));
    assert_eq!(Kubelet::of(&machine), before);
    power_off(machine);
    let console = image.console();
    assert!(console.contains("down poweroff") && !console.contains("did not end in order"), "{console}");
}

#[test]
fn a_server_that_comes_back_is_not_noticed() {
    if !ready(&["ssh", "ssh-keygen"]) {
        return;
    }
    let image = image();
    let mut server = serve(&tree(&image));
    let machine = Running::start(&image, &["--append", &root(&server), "--deadline-s", "180"]);
    load::start_reading(&machine, &READ_ALL.replace("BELOW", "/"));
    outage(&image, BACK_WITHIN, |up| if up { server.server.restart() } else { server.server.kill() });
    load::check_reading(&machine, &load::read_here(READ_ALL, &tree(&image)));
    let roots = ssh_ok(&machine, "cat /run/bootwright/roots.json");
    assert!(roots.contains("\"state\":\"up\"") && roots.contains("\"losses\":1"), "{roots}");
}

#[test]
fn the_server_can_take_the_writes() {
    if !ready(&["ssh", "ssh-keygen", "cp"]) {
        return;
    }
    let image = image();
    let folder = testkit::folders::new_folder();
    let copy = folder.path().join("tree");
    assert!(Command::new("cp").arg("-a").arg(tree(&image)).arg(&copy).status().expect("cp runs").success());
    let server = Ganesha::start("4", &[(&copy, "/root", "RW")]);
    let words = format!("{}?rw", root(&server));
    // Both ends are orderly reboots, at which the machines of these tests end.
    for (round, asked_by) in [("one", "SIGINT"), ("two", "command")] {
        let machine = Running::start(&image, &["--append", &words, "--deadline-s", "180"]);
        ssh_ok(&machine, &format!("echo {round} >> /opt/rounds"));
        match asked_by {
            "SIGINT" => {
                let keys = ["ctrl", "alt", "delete"].map(|key| json!({ "type": "qcode", "data": key }));
                machine.command("send-key", json!({ "keys": keys }));
            }
            // The connection may be cut by what it asks for.
            _ => drop(ssh(&machine, "bootwright-ctl reboot")),
        }
        let qemu = machine.qemu_pid();
        wait_until("the machine has restarted", Duration::from_secs(90), || !runs(qemu));
        let console = image.console();
        let asked = format!("reboot asked for by {asked_by}");
        for line in [asked.as_str(), " is detached", "down reboot"] {
            assert!(console.contains(line), "no {line:?} in {console}");
        }
        assert!(!console.contains("did not end in order"), "{console}");
    }
    assert_eq!(std::fs::read_to_string(copy.join("opt/rounds")).expect("it was written"), "one\ntwo\n");
}

#[test]
fn version_3_is_found_by_rpcbind() {
    if !ready(&[RPCBIND]) {
        return;
    }
    let image = image();
    // It takes its own port, 111, on all addresses (with `-h` version 1.2.6 crashes); one that runs already will do.
    let _rpcbind = std::net::TcpStream::connect(("127.0.0.1", 111)).is_err().then(|| {
        std::fs::create_dir_all("/run/rpcbind").expect("root may make it");
        ServerProcess::start_at(111, &[RPCBIND, "-f"])
    });
    let tree = tree(&image);
    // As the image's own configuration has it, which is for a tree elsewhere.
    let config = std::fs::read_to_string(image.dir().join("servers/ganesha.conf")).expect("the image was built");
    let port = ("NFS_Port = 2049;", "NFS_Port = @PORT@; Bind_addr = 127.0.0.1;");
    let place = ("/srv/bootwright/rescue-nfs/root", &*tree.display().to_string());
    let config = [port, place].iter().fold(config, |config, (from, to)| {
        assert!(config.contains(from), "no {from} in {config}");
        config.replace(from, to)
    });
    let _server = Ganesha::start_configured(&config);
    // Version 3 knows no pseudo paths.
    let words = format!("bw.root=nfs://10.0.2.2{}?vers=3", tree.display());
    let outcome = smoke(&image, &["--append", &words, "--deadline-s", "120"]);
    outcome.assert_passed();
    assert!(outcome.console().contains("is attached"));
}

#[test]
fn a_server_that_stays_away_does_not_hold_the_shutdown() {
    if !ready(&[]) {
        return;
    }
    let image = image();
    let mut server = serve(&tree(&image));
    // As the kernel's own NFS root is asked for (nfsroot.rst): the address of the image's default is not there.
    let words = format!(
        "root=/dev/nfs nfsroot=10.0.2.2:/root,vers=4.1,port={} ip=::::node:eth0:rarp bw.poweroff_after_s=15",
        server.server.port
    );
    let machine = Running::start(&image, &["--append", &words, "--deadline-s", "180"]);
    server.server.kill();
    let qemu = machine.qemu_pid();
    wait_until("the machine is off", Duration::from_secs(15 + 60 + 30), || !runs(qemu));
    let console = image.console();
    assert!(console.contains(" is lost") && console.contains("down poweroff"), "{console}");
    assert!(console.contains("poweroff asked for by SIGTERM"), "{console}");
}

#[test]
fn what_is_wrong_is_told() {
    if !ready(&["cp"]) {
        return;
    }
    let image = image();
    let folder = testkit::folders::new_folder();
    let copy = |name: &str| {
        let to = folder.path().join(name);
        assert!(Command::new("cp").arg("-a").arg(tree(&image)).arg(&to).status().expect("cp runs").success());
        to
    };
    let [short, missing, foreign, damaged] = ["short", "missing", "foreign", "damaged"].map(copy);
    let busybox = |tree: &Path| {
        let file = std::fs::File::options().write(true).open(tree.join("usr/bin/busybox")).expect("it is there");
        let size = file.metadata().expect("it is open").len();
        (file, size)
    };
    busybox(&short).0.set_len(4096).expect("it can be cut");
    let (file, size) = busybox(&damaged);
    std::os::unix::fs::FileExt::write_all_at(&file, b"another end", size - 11).expect("it can be written");
    std::fs::remove_file(missing.join("usr/bin/busybox")).expect("it is there");
    std::fs::write(foreign.join("bootwright/sums/root"), "another").expect("it can be written");
    let server = Ganesha::start(
        "4",
        &[
            (&short, "/short", "RO"),
            (&missing, "/missing", "RO"),
            (&foreign, "/foreign", "RO"),
            (&damaged, "/damaged", "RO"),
        ],
    );
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent_port = silent.local_addr().expect("it is bound").port();
    let port = server.server.port;
    // Tried in turn, so one boot tells what is wrong with each; the last one can be mounted.
    let cases = [
        (port, "/nothing", "the server exports no such path (ENOENT"),
        (port, "/short?vers=3", "it does not speak NFS version 3: it speaks 4 to 4"),
        (port, "/short", "is truncated: found 4096 of "),
        (port, "/missing", "`/usr/bin/busybox` is not in the export"),
        (port, "/foreign", "is of another build: the hash of `/bootwright/sums/root` is "),
        (1, "/short", "NFS server 10.0.2.2:1: "),
        (silent_port, "/short", "no answer in time"),
        (port, "/damaged", "`/usr/bin/busybox` is damaged: its hash is "),
    ];
    let word = |(port, place, _): &(u16, &str, &str)| format!("--append=bw.root=nfs://10.0.2.2:{port}{place}");
    let words: Vec<String> = cases.iter().map(word).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let limits = ["--append=bw.policy.image=reboot:1", "--deadline-s=120"];
    let outcome = smoke(&image, &[&words[..], &limits].concat());
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    for (_, place, message) in cases {
        let console = outcome.console();
        assert!(console.contains(message), "no {message:?} for {place} in {console}");
    }
}
