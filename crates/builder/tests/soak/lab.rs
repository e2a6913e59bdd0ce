//! The servers of one root and of a volume that is written to, and the image that boots from them.

use crate::image::Image;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;
use testkit::ganesha::Ganesha;
use testkit::load::{self, READ_ALL};
use testkit::nbd::{nbd_server, qemu_nbd};
use testkit::running::Running;
use testkit::server::ServerProcess;
use testkit::tgt::{self, Disk, Target, Tgt};

/// Holds what the writer goes round in, and the file system around it.
const VOLUME_BYTES: u64 = 96 << 20;

pub struct Lab {
    pub image: Image,
    servers: Servers,
    /// The root's URL.
    url: String,
    /// The volume: a disk, or a folder that is exported.
    volume: PathBuf,
    _folder: TempDir,
}

enum Servers {
    /// The root's and the volume's.
    Nbd(ServerProcess, ServerProcess),
    Iscsi(Tgt),
    Nfs(Ganesha),
}

impl Lab {
    /// Builds the image twice: servers want something to serve when they start, and the recipe names their ports.
    pub fn prepare(root: &str) -> Self {
        let folder = testkit::folders::new_folder();
        let volume = folder.path().join("volume");
        let dir = Image::build(root, "").dir;
        let disk = dir.join("root.img");
        if root == "nfs" {
            std::fs::create_dir(&volume).expect("a new folder");
        } else {
            std::fs::File::create(&volume).and_then(|file| file.set_len(VOLUME_BYTES)).expect("a new file");
        }
        let (servers, url, state) = match root {
            "nbd" => {
                let (server, state) = (qemu_nbd(&disk, "root"), nbd_server(&volume, "volume", folder.path(), true));
                let url = |server: &ServerProcess, name: &str| format!("nbd://10.0.2.2:{}/{name}", server.port);
                let (root, volume) = (url(&server, "root"), url(&state, "volume"));
                (Servers::Nbd(server, state), root, volume)
            }
            "iscsi" => {
                let mut target = Target::open(&disk);
                target.disks.push(Disk { image: volume.clone(), writable: true });
                let tgt = Tgt::start(target);
                let url = |lun| format!("iscsi://10.0.2.2:{}/{}/{lun}", tgt.port(), tgt::NAME);
                let (root, volume) = (url(1), url(2));
                (Servers::Iscsi(tgt), root, volume)
            }
            "nfs" => {
                let tree = dir.join("root");
                let ganesha = Ganesha::start("4", &[(&tree, "/root", "RO"), (&volume, "/volume", "RW")]);
                let url = |name: &str| format!("nfs://10.0.2.2:{}/{name}", ganesha.server.port);
                let (root, volume) = (url("root"), url("volume"));
                (Servers::Nfs(ganesha), root, volume)
            }
            other => panic!("`{other}` is none of nbd, iscsi, nfs, http"),
        };
        let format = if root == "nfs" { "" } else { ", format = \"ext4\"" };
        let image = Image::build(root, &format!("[state]\n\"/srv\" = {{ volume = \"{state}\"{format} }}\n"));
        let mut lab = Self { image, servers, url, volume, _folder: folder };
        // What they serve is another file of the same name now.
        lab.kill();
        lab.restore();
        lab
    }

    pub fn boot(&self) -> Running {
        let words = ["--append".to_string(), format!("bw.root={}", self.url), "--deadline-s=600".into()];
        Running::boot(&[&self.image.arguments[..], &words].concat(), Stdio::null())
    }

    /// Ends the servers without a word.
    pub fn kill(&mut self) {
        match &mut self.servers {
            Servers::Nbd(root, volume) => {
                root.kill();
                volume.kill();
            }
            Servers::Iscsi(tgt) => tgt.kill(),
            Servers::Nfs(ganesha) => ganesha.server.kill(),
        }
    }

    /// Starts them again; returns when they take connections.
    pub fn restore(&mut self) {
        match &mut self.servers {
            Servers::Nbd(root, volume) => {
                volume.restart();
                root.restart();
            }
            Servers::Iscsi(tgt) => tgt.restart(),
            Servers::Nfs(ganesha) => ganesha.server.restart(),
        }
    }

    /// Reads a piece of the root from its server, of 64 KiB and another one each time that `$n` is another.
    pub fn probe(&self) -> &'static str {
        match self.servers {
            Servers::Nbd(..) => "busybox dd if=/dev/nbd0 bs=64k skip=$((n % 64)) count=1",
            Servers::Iscsi(_) => "busybox dd if=/dev/sda bs=64k skip=$((n % 64)) count=1",
            Servers::Nfs(_) => "busybox cat /usr/sbin/dropbear",
        }
    }

    /// Starts to read the whole root again and again.
    pub fn start_load(&self, machine: &Running) {
        match self.servers {
            Servers::Nbd(..) => load::start(machine, "/dev/nbd0"),
            Servers::Iscsi(_) => load::start(machine, "/dev/sda"),
            Servers::Nfs(_) => load::start_reading(machine, &READ_ALL.replace("BELOW", "/")),
        }
    }

    /// Every byte, each time, and no error.
    pub fn check_load(&self, machine: &Running) {
        if !matches!(self.servers, Servers::Nfs(_)) {
            return load::check(machine, &self.image.dir.join("root.img"));
        }
        load::check_reading(machine, &load::read_here(READ_ALL, &self.image.dir.join("root")));
    }

    /// A file of the volume as the server has it.
    pub fn written(&self, name: &str) -> Vec<u8> {
        if self.volume.is_dir() {
            return std::fs::read(self.volume.join(name)).expect("it was written");
        }
        let run = |program: &str, args: &[&str]| {
            let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
            let output = Command::new(program).args(args).arg(&self.volume).env("PATH", path).output();
            let output = output.expect("it is installed with mke2fs");
            assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stdout));
            output.stdout
        };
        run("e2fsck", &["-f", "-n"]);
        run("debugfs", &["-R", &format!("cat /{name}")])
    }
}
