//! Commands on a running machine, with a key made for the test.

use crate::folders::work_folder;
use crate::running::{Running, runs, wait_until};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// Longer than any command of a test takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

static KEY: OnceLock<Key> = OnceLock::new();

/// A key pair in cargo's folder for tests.
#[derive(Debug)]
pub struct Key {
    private: PathBuf,
    /// One line of authorized_keys.
    pub public: String,
}

/// The key of this run, made at first use. It is kept: an image with it is then not built again by the next run.
pub fn key() -> &'static Key {
    KEY.get_or_init(|| {
        let private = work_folder().join("vm-key");
        if !private.exists() {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
                .arg(&private)
                .status();
            assert!(made.expect("ssh-keygen runs").success());
        }
        let public = std::fs::read_to_string(private.with_extension("pub")).expect("ssh-keygen wrote it");
        Key { private, public: public.trim().into() }
    })
}

/// Runs a command line on the machine.
pub fn ssh(machine: &Running, command: &str) -> Output {
    ssh_at(machine.ssh_port(), command)
}

/// The same on one whose sshd has that port of the loopback address.
pub fn ssh_at(port: u16, command: &str) -> Output {
    let mut ssh = assert_cmd::Command::from_std(self::command(port, command));
    ssh.timeout(LIMIT).output().expect("ssh runs and ends within the limit")
}

/// The client that runs a command line there.
pub fn command(port: u16, command: &str) -> Command {
    let mut ssh = Command::new("ssh");
    ssh.args([
        "-F",
        "none",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "LogLevel=ERROR",
    ]);
    ssh.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=15"]);
    ssh.arg("-i").arg(&key().private).args(["-p", &port.to_string(), "root@127.0.0.1", command]);
    ssh
}

/// Runs a command line that must succeed and returns what it printed.
#[track_caller]
pub fn ssh_ok(machine: &Running, command: &str) -> String {
    ssh_ok_at(machine.ssh_port(), command)
}

/// Runs a command line on a terminal that the machine makes for it (`ssh -tt`). Returns what that terminal was sent.
#[track_caller]
pub fn ssh_on_terminal(machine: &Running, command: &str) -> String {
    let limit = LIMIT.as_secs().to_string();
    let mut ssh = Command::new("timeout");
    ssh.args([&limit, "ssh", "-tt"]).args(self::command(machine.ssh_port(), command).get_args());
    ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut ssh = ssh.spawn().expect("ssh runs");
    // At the end of its input ssh would hang up, before the command has written anything.
    let _input = ssh.stdin.take();
    let output = ssh.wait_with_output().expect("ssh ends within the limit");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "`{command}`: {}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// [`ssh_ok`] by port.
#[track_caller]
pub fn ssh_ok_at(port: u16, command: &str) -> String {
    let output = ssh_at(port, command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "`{command}`: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Powers the machine off in order.
pub fn power_off(machine: Running) {
    let qemu = machine.qemu_pid();
    // The connection may be cut by what it asks for.
    ssh(&machine, "bootwright-ctl poweroff");
    wait_until("the machine is off", Duration::from_secs(90), || !runs(qemu));
}

/// The fingerprint of sshd's host key that the console of a machine shows.
#[track_caller]
pub fn told_fingerprint(console: &str) -> String {
    let told = console.lines().rev().find_map(|line| line.split_once(" ssh-host-key: host key "));
    let (_, fingerprint) = told.unwrap_or_else(|| panic!("no fingerprint in\n{console}"));
    fingerprint.trim().into()
}
