//! dnsmasq as a child: DHCP or proxyDHCP, and TFTP, with the configuration of the boot chain.

use super::ServeError;
use crate::chain::LOADERS;
use crate::interrupt::Group;
use crate::ui::Ui;
use std::ffi::OsString;
use std::fs::Permissions;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use tempfile::TempDir;

/// Runs the command that it is given, and kills the whole group when standard input is closed: as long as this process lives, nobody
/// closes the other end. The kernel's own signal for that (PR_SET_PDEATHSIG) does not reach dnsmasq, which changes its user.
const GUARD: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
dnsmasq=$!
{ read -r never; kill -s KILL 0; } <&3 &
wait $dnsmasq
"#;

/// A running dnsmasq; it ends on drop, and when this process ends, however it does.
#[derive(Debug)]
pub struct Dnsmasq {
    group: Group,
    lines: Receiver<String>,
    last: String,
    _tftp: TempDir,
}

impl Dnsmasq {
    /// Starts it with `config`. TFTP serves iPXE from `loaders`, and all that is in `out`.
    pub fn start(config: &Path, out: &Path, loaders: &Path) -> Result<Self, ServeError> {
        let tftp = tftp_root(out, loaders)?;
        let program = find().ok_or(ServeError::NoDnsmasq { cause: ErrorKind::NotFound.into() })?;
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "sh"]).arg(program);
        command.args(["--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--leasefile-ro", "--pid-file="]);
        command.arg(format!("--conf-file={}", config.display())).arg("--enable-tftp");
        command.arg(format!("--tftp-root={}", tftp.path().display()));
        // Whoever holds the child holds the other end of its standard input.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut group = Group::spawn(&mut command).map_err(|cause| ServeError::NoDnsmasq { cause })?;
        let stderr = group.child().stderr.take().expect("standard error was set to a pipe");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { group, lines, last: String::new(), _tftp: tftp })
    }

    /// Passes on what it said; an error when it has ended.
    pub fn check(&mut self, ui: &Ui) -> Result<(), ServeError> {
        let ended = self.group.child().try_wait().ok().flatten();
        for line in self.lines.try_iter() {
            ui.say(&line);
            self.last = line;
        }
        match ended {
            Some(status) => Err(ServeError::DnsmasqEnded { status: status.to_string(), said: self.last.clone() }),
            None => Ok(()),
        }
    }
}

/// A folder of links that dnsmasq's own user may read.
fn tftp_root(out: &Path, loaders: &Path) -> Result<TempDir, ServeError> {
    let io = |action, path: &Path, cause| ServeError::Io { action, path: path.into(), cause };
    let dir = tempfile::tempdir().map_err(|cause| io("make", &std::env::temp_dir(), cause))?;
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755))
        .map_err(|cause| io("make", dir.path(), cause))?;
    let link = |from: &Path, name: &std::ffi::OsStr| {
        let from = std::path::absolute(from).map_err(|cause| io("find", from, cause))?;
        let to = dir.path().join(name);
        symlink(&from, &to).map_err(|cause| io("make", &to, cause))
    };
    for name in LOADERS {
        let path = loaders.join(name);
        if !path.is_file() {
            return Err(ServeError::NoLoader { path });
        }
        link(&path, name.as_ref())?;
    }
    for entry in std::fs::read_dir(out).map_err(|cause| io("read", out, cause))? {
        let entry = entry.map_err(|cause| io("read", out, cause))?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && entry.path().is_dir() {
            link(&entry.path(), &entry.file_name())?;
        }
    }
    Ok(dir)
}

/// Debian has dnsmasq in a folder that is not on everybody's path.
fn find() -> Option<PathBuf> {
    let mut path: OsString = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    std::env::split_paths(&path).map(|dir| dir.join("dnsmasq")).find(|file| file.is_file())
}
