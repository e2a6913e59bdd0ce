//! Real servers of roots: processes on the loopback address that a test kills and starts again.

use crate::running::{free_port, wait_until};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server that runs, or has been killed.
pub struct ServerProcess {
    pub port: u16,
    command: Vec<String>,
    child: Option<Child>,
    /// Where a server that goes into the background writes its process id, which is its group's too.
    pid_file: Option<PathBuf>,
}

impl ServerProcess {
    /// Starts the command; `{port}` in it is a free port of 127.0.0.1.
    pub fn start(command: &[&str]) -> ServerProcess {
        Self::start_at(free_port(), command)
    }

    /// The same on a port that cannot be chosen.
    pub fn start_at(port: u16, command: &[&str]) -> ServerProcess {
        let command = command.iter().map(|word| word.replace("{port}", &port.to_string())).collect();
        let mut server = ServerProcess { port, command, child: None, pid_file: None };
        server.restart();
        server
    }

    /// The same for one that goes into the background, with a process for each client.
    pub fn start_daemon(port: u16, command: &[&str], pid_file: &Path) -> ServerProcess {
        let mut server = Self::start_at(port, command);
        server.pid_file = Some(pid_file.into());
        server
    }

    /// Sends the whole group a signal that none can hold off; false when there is none.
    fn kill_group(&self) -> bool {
        let group = self.pid_file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
        group.is_some_and(|group| killpg(Pid::from_raw(group), Signal::SIGKILL).is_ok())
    }

    /// Starts it again, and waits until it accepts connections.
    pub fn restart(&mut self) {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        self.child = Some(command.spawn().expect("the server is installed"));
        let port = self.port;
        wait_until("the server accepts connections", Duration::from_secs(30), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    /// Ends it without a word to its clients.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            if self.pid_file.is_some() {
                wait_until("the server has said who it is", Duration::from_secs(10), || self.kill_group());
                // Nobody waits for those processes: the next server could find the port taken.
                let port = self.port;
                wait_until("the port is free", Duration::from_secs(10), || {
                    TcpStream::connect(("127.0.0.1", port)).is_err()
                });
            }
            child.kill().expect("it runs");
            child.wait().expect("it was killed");
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            self.kill_group();
            // Both only fail when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
