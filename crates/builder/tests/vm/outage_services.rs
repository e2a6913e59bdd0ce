//! Services during the outage of a network root, which is what they are read from: PID1 goes on, whatever hangs. A root over
//! HTTP is in memory once it is there, and knows no outage.

use crate::watchdog::{CTRL_Q, CTRL_S, Machine};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use testkit::ganesha::{GANESHA, Ganesha, is_root};
use testkit::image::Image;
use testkit::nbd::{QEMU_NBD, qemu_nbd};
use testkit::running::free_port;
use testkit::ssh::{self, key};
use testkit::tgt::{NAME, Target, Tgt};
use testkit::vm::{boot_until, wait_until};
use testkit::{QEMU, need::have};

/// How long the server is away.
const AWAY: Duration = Duration::from_secs(60);
/// The longest that the control socket may take for an answer, ssh included.
const ANSWER: Duration = Duration::from_secs(1);
/// Once the server is back: recovery takes at most 5 s, and the machine may be busy.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// `late` is a program of its own, so that nothing else keeps it in the page cache, and has a readiness file on the root.
/// `steady` logs by what a shell has built in, and so needs nothing of the root. `loud` says a lot, on the console too.
const RECIPE: &str = r#"
[kernel]
early = ["loop", "overlay", "i6300esb"]
[watchdog]
timeout_s = 10
[[component]]
name = "late"
deb = { suite = "${suite}", packages = ["busybox-static"], depends = false }
paths = ["usr/bin/busybox"]
rename = { "usr/bin/busybox" = "usr/bin/busybox-late" }
[[service]]
name = "late"
exec = ["/usr/bin/busybox-late", "sh", "-c", "echo runs; : > /opt/late; busybox mkfifo /run/late; read x < /run/late"]
ready = { file = "/opt/late" }
ready_timeout_s = 20
[[service]]
name = "steady"
exec = ["/bin/sh", "-c", """
busybox mkfifo /run/steady
exec 3<>/run/steady
n=0
while :; do echo "tick $n"; n=$((n + 1)); read -t 1 x <&3; done
"""]
[[service]]
name = "loud"
exec = ["/bin/sh", "-c", """
busybox mkfifo /run/loud
exec 3<>/run/loud
while :; do
    for n in 1 2 3 4 5 6 7 8 9 10; do echo "loud as loud can be, and then a little louder than that $n"; done
    read -t 1 x <&3
done
"""]
console = true
"#;

/// A prompt of control commands, each of which has one line for an answer.
struct Client {
    ssh: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
    longest: Duration,
}

impl Client {
    fn start(port: u16) -> Client {
        let mut ssh = ssh::command(port, "bootwright-ctl");
        let mut ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ssh runs");
        let commands = ssh.stdin.take().expect("it was set to a pipe");
        let lines = BufReader::new(ssh.stdout.take().expect("it was set to a pipe")).lines();
        let (send, answers) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).all(|line| send.send(line).is_ok()));
        Client { ssh, commands, answers, longest: Duration::ZERO }
    }

    #[track_caller]
    fn ask(&mut self, command: &str, limit: Duration) -> String {
        let since = Instant::now();
        writeln!(self.commands, "{command}").expect("ssh reads");
        let answer = self.answers.recv_timeout(limit);
        let answer = answer.unwrap_or_else(|_| panic!("no answer to `{command}` within {limit:?}"));
        self.longest = self.longest.max(since.elapsed());
        answer
    }

    #[track_caller]
    fn tell(&mut self, command: &str, answer: &str) {
        assert_eq!(self.ask(command, ANSWER), answer, "{command}");
    }

    #[track_caller]
    fn status(&mut self) -> Status {
        Status(serde_json::from_str(&self.ask("status --json", ANSWER)).expect("it is JSON"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Both only fail when it has ended already.
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}

struct Status(Value);

impl Status {
    fn service(&self, name: &str, key: &str) -> &Value {
        let services = self.0["services"].as_array().expect("a list");
        &services.iter().find(|service| service["name"] == name).expect("it is a service")[key]
    }

    fn state(&self, name: &str) -> &str {
        self.service(name, "state").as_str().expect("a word")
    }

    fn root(&self) -> &str {
        self.0["roots"][0]["state"].as_str().expect("a network root")
    }
}

/// Boots the image, takes its server away and asks all the time.
fn services_during_an_outage(image: &Image, root: &str, mut up: impl FnMut(bool)) {
    boot_until(image, &["--append", root], "Linux version");
    let port = free_port();
    let mut machine = Machine::start_with_ssh(image, root, port);
    machine.await_line("service sshd ready");
    machine.await_line("service late ready");
    await_sshd(port);
    let mut client = Client::start(port);
    client.ask("status --json", Duration::from_secs(60));
    client.longest = Duration::ZERO;
    client.tell("stop late", "late: being stopped");
    wait_until("late is stopped", Duration::from_secs(30), || client.status().state("late") == "stopped");
    // What no process has mapped has to be read again.
    ssh::ssh_ok_at(port, "echo 3 > /proc/sys/vm/drop_caches");
    let before = client.status();
    machine.type_in(&[CTRL_S]);
    up(false);
    let since = Instant::now();
    wait_until("the loss is told", Duration::from_secs(30), || client.status().root() == "lost");
    client.tell("start late", "late: being started");
    // One that runs, whose program is in memory, and one that is only waited for.
    client.tell("restart sshd", "sshd: being restarted");
    client.tell("stop loud", "loud: being stopped");
    let mut restarted = false;
    while since.elapsed() < AWAY {
        let status = client.status();
        assert!(!machine.has_ended(), "{}", machine.console());
        assert_eq!((status.root(), status.state("steady")), ("lost", "ready"));
        assert!(["starting", "stopping"].contains(&status.state("late")), "{}", status.0);
        if since.elapsed() > AWAY / 2 && !restarted {
            let detail = status.service("late", "detail").as_str().expect("text");
            assert!(detail.starts_with("its program is being read since "), "{detail}");
            client.tell("restart late", "late: being restarted");
            restarted = true;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    eprintln!("longest answer so far {:?}", client.longest);
    machine.type_in(&[CTRL_Q]);
    up(true);
    let back = Instant::now();
    wait_until("all is carried out", BACK_WITHIN, || {
        let status = client.status();
        let states = ["late", "steady", "sshd", "loud"].map(|name| status.state(name).to_string());
        status.root() == "up" && states == ["ready", "ready", "ready", "stopped"]
    });
    eprintln!("all was carried out {:.1} s later", back.elapsed().as_secs_f64());
    let after = client.status();
    for (name, restarts) in [("late", 2), ("sshd", 1), ("steady", 0)] {
        assert_eq!(after.service(name, "restarts"), restarts, "{name}: {}", after.0);
    }
    assert_eq!(after.service("steady", "pid"), before.service("steady", "pid"));
    await_sshd(port);
    check_what_is_left(port);
    let console = machine.console();
    for bad in ["service late failed", "service steady failed", "Kernel panic", "I/O error"] {
        assert!(!console.contains(bad), "{bad} in {console}");
    }
    ssh::ssh_at(port, "bootwright-ctl poweroff");
    wait_until("it is off", Duration::from_secs(90), || machine.has_ended());
    assert!(machine.console().contains("down poweroff"), "{}", machine.console());
    eprintln!("longest answer {:?}", client.longest);
}

/// sshd counts as ready when it runs, and listens a moment later.
fn await_sshd(port: u16) {
    wait_until("sshd answers", Duration::from_secs(60), || ssh::ssh_at(port, "true").status.success());
}

/// Not a line of a service is missing, PID1 is small, and no process is left that nobody has waited for.
fn check_what_is_left(port: u16) {
    let log = ssh::ssh_ok_at(port, "bootwright-ctl logs steady -n 100000");
    let ticks: Vec<&str> = log.lines().collect();
    assert!(ticks.len() as u64 >= AWAY.as_secs() / 2, "{log}");
    for (n, line) in ticks.iter().enumerate() {
        assert_eq!(*line, format!("tick {n}"), "{log}");
    }
    let memory = ssh::ssh_ok_at(port, "grep VmRSS /proc/1/status");
    let kib: u64 = memory.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    assert!(kib <= 3 << 10, "PID1 has {memory}");
    eprintln!("PID1 has {kib} KiB");
    let zombies = ssh::ssh_ok_at(port, "grep -l '^State:.*zombie' /proc/[0-9]*/status || true");
    assert_eq!(zombies, "");
}

fn image(root: &str) -> Image {
    Image::build_variant_with_root(
        "outage-services",
        "rescue",
        RECIPE,
        &[&format!("ssh_key={}", key().public)],
        Some(root),
    )
}

#[test]
fn services_during_an_outage_of_an_nbd_server() {
    if !have(&[QEMU, QEMU_NBD, "ssh", "ssh-keygen"]) {
        return;
    }
    let image = image("nbd");
    let mut server = qemu_nbd(&image.dir().join("root.img"), "rescue");
    let root = format!("bw.root=nbd://10.0.2.2:{}/rescue", server.port);
    services_during_an_outage(&image, &root, |up| if up { server.restart() } else { server.kill() });
}

#[test]
fn services_during_an_outage_of_an_iscsi_target() {
    if !have(&[QEMU, "tgtd", "ssh", "ssh-keygen"]) {
        return;
    }
    let image = image("iscsi");
    let mut tgt = Tgt::start(Target::open(&image.dir().join("root.img")));
    let root = format!("bw.root=iscsi://10.0.2.2:{}/{NAME}", tgt.port());
    services_during_an_outage(&image, &root, |up| if up { tgt.restart() } else { tgt.kill() });
}

#[test]
fn services_during_an_outage_of_an_nfs_server() {
    if !have(&[QEMU, GANESHA, "ssh", "ssh-keygen"]) || !is_root() {
        return;
    }
    let image = image("nfs");
    let tree = image.dir().join("root").canonicalize().expect("it was built");
    let mut server = Ganesha::start("4", &[(&tree, "/root", "RO")]);
    let root = format!("bw.root=nfs://10.0.2.2:{}/root", server.server.port);
    services_during_an_outage(&image, &root, |up| if up { server.server.restart() } else { server.server.kill() });
}
