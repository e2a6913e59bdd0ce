//! A target of tgtd (package tgt) on the loopback address, with a control socket of its own.

use crate::server::ServerProcess;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What every target here is called.
pub const NAME: &str = "iqn.2024-07.internal.bootwright:test";

/// A disk of the target; the first one is LUN 1, as tgtd has its controller at LUN 0.
#[derive(Debug, Clone)]
pub struct Disk {
    pub image: PathBuf,
    pub writable: bool,
}

/// CHAP name and secret.
pub type Account = (&'static str, &'static str);

/// What a target has.
#[derive(Debug, Clone, Default)]
pub struct Target {
    pub disks: Vec<Disk>,
    /// Who may log in; nobody named: everybody.
    pub incoming: Option<Account>,
    /// What the target proves itself with.
    pub outgoing: Option<Account>,
}

impl Target {
    /// A root image for everybody.
    pub fn open(image: &Path) -> Self {
        Self { disks: vec![Disk { image: image.into(), writable: false }], ..Self::default() }
    }
}

pub struct Tgt {
    server: ServerProcess,
    target: Target,
    folder: TempDir,
}

impl Tgt {
    pub fn start(target: Target) -> Self {
        // A socket's path is short (unix(7)): cargo's folder may be too deep.
        let folder = tempfile::tempdir().expect("the folder for temporary files is writable");
        let socket = format!("TGT_IPC_SOCKET={}", folder.path().join("tgt").display());
        let portal = "portal=127.0.0.1:{port}";
        let server = ServerProcess::start(&["env", &socket, "tgtd", "-f", "-C", "1", "--iscsi", portal]);
        let tgt = Self { server, target, folder };
        tgt.configure();
        tgt
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// Ends it without a word to its clients.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again as it was. For a moment it runs without its target.
    pub fn restart(&mut self) {
        self.server.restart();
        self.configure();
    }

    fn configure(&self) {
        self.admin(&["target", "new", "--tid", "1", "-T", NAME]);
        for (number, disk) in self.target.disks.iter().enumerate() {
            let lun = (number + 1).to_string();
            let image = disk.image.to_str().expect("cargo's folders are UTF-8");
            self.admin(&["logicalunit", "new", "--tid", "1", "--lun", &lun, "-b", image]);
            let read_only = if disk.writable { "readonly=0" } else { "readonly=1" };
            self.admin(&["logicalunit", "update", "--tid", "1", "--lun", &lun, "--params", read_only]);
        }
        let account = |account: Option<Account>, how: &[&str]| {
            if let Some((user, secret)) = account {
                self.admin(&["account", "new", "--user", user, "--password", secret]);
                self.admin(&[&["account", "bind", "--tid", "1", "--user", user], how].concat());
            }
        };
        account(self.target.incoming, &[]);
        account(self.target.outgoing, &["--outgoing"]);
        self.admin(&["target", "bind", "--tid", "1", "-I", "ALL"]);
    }

    /// `mode`, `op` and the rest.
    fn admin(&self, args: &[&str]) {
        let mut command = Command::new("tgtadm");
        command.env("TGT_IPC_SOCKET", self.folder.path().join("tgt")).args(["-C", "1", "--lld", "iscsi"]);
        let output = command.args(["--mode", args[0], "--op", args[1]]).args(&args[2..]).output();
        let output = output.expect("tgtadm is installed beside tgtd");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
