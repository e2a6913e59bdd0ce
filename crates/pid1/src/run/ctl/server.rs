//! PID1's side of the control socket. It belongs to the main loop and never blocks it for long.

use super::{Reply, Request, render};
use crate::base::network::NetState;
use crate::base::node::Node;
use crate::run::power::How;
use crate::run::service::{CommandError, Millis, Next, Supervisor};
use bootwright_contract::json;
use bootwright_contract::paths;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

/// A longer request is none.
const LONGEST_REQUEST: usize = 4096;
/// Clients at a time; more wait in the listener's queue.
const MOST_CLIENTS: usize = 16;
/// For a client that does not read its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// A client asked for the machine to go down.
pub struct Asked(pub How);

/// The socket and its clients.
pub struct Server {
    listener: UnixListener,
    clients: Vec<(UnixStream, Vec<u8>)>,
}

impl Server {
    /// Listens on [`paths::CONTROL_SOCKET`], for root only.
    pub fn open() -> io::Result<Server> {
        Server::open_at(Path::new(paths::CONTROL_SOCKET))
    }

    pub(super) fn open_at(path: &Path) -> io::Result<Server> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let _ = fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Server { listener, clients: Vec::new() })
    }

    /// What to poll.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let listener = (self.clients.len() < MOST_CLIENTS).then(|| self.listener.as_fd());
        self.clients.iter().map(|(stream, _)| stream.as_fd()).chain(listener)
    }

    /// Takes in clients and answers those that have asked.
    pub fn serve(
        &mut self,
        boot: &Node,
        supervisor: &mut Supervisor,
        network: &NetState,
        now: Millis,
    ) -> Option<Asked> {
        while self.clients.len() < MOST_CLIENTS {
            let Ok((stream, _)) = self.listener.accept() else { break };
            if stream.set_nonblocking(true).is_ok() {
                self.clients.push((stream, Vec::new()));
            }
        }
        let mut asked = None;
        self.clients.retain_mut(|(stream, line)| match read_line(stream, line) {
            Progress::More => true,
            Progress::Over => false,
            Progress::Line => {
                let (reply, how) = answer(line, boot, supervisor, network, now);
                asked = asked.take().or(how);
                // A client that went away does without.
                let _ = send(stream, &reply);
                false
            }
        });
        asked
    }
}

enum Progress {
    More,
    Line,
    Over,
}

fn read_line(stream: &mut UnixStream, line: &mut Vec<u8>) -> Progress {
    let mut buffer = [0; 512];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Progress::Over,
            Ok(length) => line.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::More,
            Err(_) => return Progress::Over,
        }
        if line.contains(&b'\n') || line.len() > LONGEST_REQUEST {
            return Progress::Line;
        }
    }
}

fn send(stream: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(reply)?;
    bytes.push(b'\n');
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    stream.write_all(&bytes)
}

/// Carries out one request.
fn answer(
    line: &[u8],
    boot: &Node,
    supervisor: &mut Supervisor,
    network: &NetState,
    now: Millis,
) -> (Reply, Option<Asked>) {
    let Ok(request) = json::from_slice::<Request>(line) else {
        return (refuse(2, "the request is no line of JSON that PID1 knows"), None);
    };
    let down = |how: How| (done(&[how.word(), ": services are being stopped\n"].concat()), Some(Asked(how)));
    let reply = match &request.command[..] {
        "status" => {
            let status = render::status(boot, supervisor.status(now), network, now);
            done(&if request.json { render::json(&status) } else { render::status_table(&status) })
        }
        "timeline" => {
            let timeline = boot.timeline.snapshot();
            done(&if request.json { render::json(&timeline) } else { render::timeline_table(&timeline) })
        }
        "start" => service(&request, "started", |name| supervisor.start(name, now)),
        "stop" => service(&request, "being stopped", |name| supervisor.command(name, Next::Stay, now)),
        "restart" => service(&request, "being restarted", |name| supervisor.command(name, Next::Start, now)),
        "reboot" => return down(How::Reboot),
        "poweroff" => return down(How::PowerOff),
        "halt" => return down(How::Halt),
        other => refuse(2, &["unknown command `", other, "`"].concat()),
    };
    (reply, None)
}

fn service(request: &Request, what: &str, act: impl FnOnce(&str) -> Result<(), CommandError>) -> Reply {
    let Some(name) = &request.name else {
        return refuse(2, &["`", &request.command, "` wants the name of a service"].concat());
    };
    match act(name) {
        Ok(()) => done(&[name, ": ", what, "\n"].concat()),
        Err(error) => refuse(1, &error.to_string()),
    }
}

fn done(text: &str) -> Reply {
    Reply { exit: 0, text: text.into() }
}

fn refuse(exit: u8, text: &str) -> Reply {
    Reply { exit, text: [text, "\n"].concat() }
}
