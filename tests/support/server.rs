//! Real servers of roots: processes on the loopback address that a test kills and starts again.

use super::vm::wait_until;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server that runs, or has been killed.
pub struct Server {
    pub port: u16,
    command: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// Starts the command; `{port}` in it is a free port of 127.0.0.1.
    pub fn start(command: &[&str]) -> Server {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        Self::start_at(free.port(), command)
    }

    /// The same on a port that cannot be chosen.
    pub fn start_at(port: u16, command: &[&str]) -> Server {
        let command = command.iter().map(|word| word.replace("{port}", &port.to_string())).collect();
        let mut server = Server { port, command, child: None };
        server.restart();
        server
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
            child.kill().expect("it runs");
            child.wait().expect("it was killed");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Both only fail when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
