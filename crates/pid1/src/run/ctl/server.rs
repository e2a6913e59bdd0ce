//! PID1's side of the control socket. It runs in the main loop and never waits for a client.

use super::{ControlReply, ControlRequest, render};
use crate::base::network::NetState;
use crate::base::node::Node;
use crate::run::power::PowerAction;
use crate::run::service::{AfterStop, CommandError, Millis, Supervisor};
use bootwright_contract::json;
use bootwright_contract::paths;
use nix::poll::PollFlags;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Longest request in bytes.
const LONGEST_REQUEST: usize = 4096;
/// Largest number of clients. One more replaces the one that was connected first.
const MOST_CLIENTS: usize = 32;
/// Milliseconds that a client may take for its request and for reading the answer.
const CLIENT_LIMIT_MS: Millis = 10_000;

/// A client asks for the machine to go down.
pub struct PowerRequest(pub PowerAction);

/// The socket and its clients.
pub struct ControlServer {
    listener: UnixListener,
    /// In the order in which they connected.
    clients: Vec<ControlClient>,
}

/// A client that is still connected.
struct ControlClient {
    stream: UnixStream,
    request: Vec<u8>,
    /// The unsent part of the answer, once there is one.
    answer: Option<Vec<u8>>,
    until: Millis,
}

impl ControlServer {
    /// Listens on [`paths::CONTROL_SOCKET`], for root only.
    pub fn open() -> io::Result<ControlServer> {
        ControlServer::open_at(Path::new(paths::CONTROL_SOCKET))
    }

    pub(super) fn open_at(path: &Path) -> io::Result<ControlServer> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let _ = fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(ControlServer { listener, clients: Vec::new() })
    }

    /// Descriptors to poll, with the events to wait for.
    pub fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let clients = self.clients.iter().map(|client| {
            let wanted = if client.answer.is_some() { PollFlags::POLLOUT } else { PollFlags::POLLIN };
            (client.stream.as_fd(), wanted)
        });
        clients.chain([(self.listener.as_fd(), PollFlags::POLLIN)])
    }

    /// When [`ControlServer::serve`] has to be called next.
    pub fn deadline(&self) -> Option<Millis> {
        self.clients.iter().map(|client| client.until).min()
    }

    /// Accepts clients, and goes on with all of them. Returns the request to go down, if there is one.
    pub fn serve(
        &mut self,
        node: &Node,
        supervisor: &mut Supervisor,
        network: &NetState,
        now: Millis,
    ) -> Option<PowerRequest> {
        let mut asked = None;
        let mut answer = |request: &[u8]| {
            let (reply, how) = answer(request, node, supervisor, network, now);
            asked = asked.take().or(how);
            reply
        };
        self.clients.retain_mut(|client| client.go_on(now, &mut answer));
        // Bounded, because new clients may come as fast as they are accepted.
        for _ in 0..MOST_CLIENTS {
            let Ok((stream, _)) = self.listener.accept() else { break };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let until = now + CLIENT_LIMIT_MS;
            let mut client = ControlClient { stream, request: Vec::new(), answer: None, until };
            if !client.go_on(now, &mut answer) {
                continue;
            }
            if self.clients.len() >= MOST_CLIENTS {
                self.clients.remove(0);
            }
            self.clients.push(client);
        }
        asked
    }
}

impl ControlClient {
    /// Reads, answers and writes as much as is possible without waiting. Returns false when the client is to be
    /// dropped.
    fn go_on(&mut self, now: Millis, answer: &mut dyn FnMut(&[u8]) -> ControlReply) -> bool {
        if self.answer.is_none() && self.read() {
            let reply = answer(&self.request);
            let mut bytes = serde_json::to_vec(&reply).unwrap_or_default();
            bytes.push(b'\n');
            self.answer = Some(bytes);
        }
        self.until > now && self.is_wanted()
    }

    /// Reads. Returns false when the client is gone. A request that is too long counts as complete, and is answered
    /// with an error.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 512];
        while !self.request.contains(&b'\n') && self.request.len() <= LONGEST_REQUEST {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.until = 0;
                    return false;
                }
                Ok(length) => self.request.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Whether there is more to read or write.
    fn is_wanted(&mut self) -> bool {
        let Some(answer) = &mut self.answer else { return true };
        while !answer.is_empty() {
            match self.stream.write(answer) {
                Ok(written) => drop(answer.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        // The client waits for the end of the connection. A process that was just started may still hold a copy of the
        // descriptor.
        let _ = self.stream.shutdown(Shutdown::Both);
        false
    }
}

/// Carries out one request.
fn answer(
    line: &[u8],
    node: &Node,
    supervisor: &mut Supervisor,
    network: &NetState,
    now: Millis,
) -> (ControlReply, Option<PowerRequest>) {
    let Ok(request) = json::from_slice::<ControlRequest>(line) else {
        return (refuse(2, "the request is no line of JSON that PID1 knows"), None);
    };
    let down =
        |how: PowerAction| (done(&[how.word(), ": services are being stopped\n"].concat()), Some(PowerRequest(how)));
    let reply = match &request.command[..] {
        "status" => {
            let status = render::status(node, supervisor.status(now), network, now);
            done(&if request.json { render::json(&status) } else { render::status_table(&status) })
        }
        "timeline" => {
            let timeline = node.timeline.snapshot();
            done(&if request.json { render::json(&timeline) } else { render::timeline_table(&timeline) })
        }
        "start" => service(&request, "being started", |name| supervisor.start(name, now)),
        "stop" => service(&request, "being stopped", |name| supervisor.command(name, AfterStop::Stay, now)),
        "kill" => service(&request, "being killed", |name| supervisor.kill(name, now)),
        "restart" => service(&request, "being restarted", |name| supervisor.command(name, AfterStop::Start, now)),
        "reboot" => return down(PowerAction::Reboot),
        "poweroff" => return down(PowerAction::PowerOff),
        "halt" => return down(PowerAction::Halt),
        other => refuse(2, &["unknown command `", other, "`"].concat()),
    };
    (reply, None)
}

fn service(request: &ControlRequest, what: &str, act: impl FnOnce(&str) -> Result<(), CommandError>) -> ControlReply {
    let Some(name) = &request.name else {
        return refuse(2, &["`", &request.command, "` wants the name of a service"].concat());
    };
    match act(name) {
        Ok(()) => done(&[name, ": ", what, "\n"].concat()),
        Err(error) => refuse(1, &error.to_string()),
    }
}

fn done(text: &str) -> ControlReply {
    ControlReply { exit: 0, text: text.into() }
}

fn refuse(exit: u8, text: &str) -> ControlReply {
    ControlReply { exit, text: [text, "\n"].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{setsockopt, sockopt};

    /// A client, its other end, and a server's side that takes little at once.
    fn client() -> (ControlClient, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        setsockopt(&ours, sockopt::SndBuf, &4096).expect("a small buffer");
        ours.set_nonblocking(true).expect("ours");
        (ControlClient { stream: ours, request: Vec::new(), answer: None, until: 1000 }, theirs)
    }

    fn long_answer(_: &[u8]) -> ControlReply {
        ControlReply { exit: 0, text: "y".repeat(1 << 20) }
    }

    #[test]
    fn a_slow_reader_gets_the_whole_answer() {
        let (mut client, mut theirs) = client();
        assert!(client.go_on(0, &mut long_answer), "it has not asked");
        theirs.write_all(b"{}\nand more").expect("a reader");
        assert!(client.go_on(0, &mut long_answer), "it has not read");
        // A child that was started meanwhile keeps the connection open.
        let _child = client.stream.try_clone().expect("a descriptor");
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            theirs.read_to_string(&mut text).map(|_| text)
        });
        while client.go_on(999, &mut long_answer) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let text = reader.join().expect("no panic").expect("the end is seen");
        assert_eq!(text.matches('y').count(), 1 << 20);
    }

    #[test]
    fn a_client_has_its_time() {
        for asks in [false, true] {
            let (mut client, mut theirs) = client();
            if asks {
                theirs.write_all(b"{}\n").expect("a reader");
            }
            assert!(client.go_on(999, &mut long_answer) && !client.go_on(1000, &mut long_answer), "{asks}");
        }
        let (mut client, theirs) = client();
        drop(theirs);
        assert!(!client.go_on(0, &mut long_answer), "it went away");
    }
}
