//! Commands on a running machine, with a key made for the test.

use crate::vm::Running;
use std::path::PathBuf;
use std::process::{Command, Output};
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
        let private = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("vm-key");
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
    let mut ssh = assert_cmd::Command::new("ssh");
    ssh.timeout(LIMIT);
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
    ssh.arg("-i").arg(&key().private).args(["-p", &machine.ssh_port().to_string(), "root@127.0.0.1", command]);
    ssh.output().expect("ssh runs and ends within the limit")
}

/// Runs a command line that must succeed and returns what it printed.
#[track_caller]
pub fn ssh_ok(machine: &Running, command: &str) -> String {
    let output = ssh(machine, command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "`{command}`: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}
