//! Client and server over a real socket.

use super::server::{ControlServer, PowerRequest};
use super::{ControlReply, ControlRequest, client};
use crate::base::network::NetState;
use crate::base::node::Node;
use crate::base::timeline::Timeline;
use crate::run::power::PowerAction;
use crate::run::service::{ServicePaths, Supervisor};
use bootwright_base::cmdline::Cmdline;
use bootwright_base::sys::RealSys;
use bootwright_base::wake;
use bootwright_contract::fixture::boot_config;
use bootwright_contract::json;
use nix::poll::{PollFd, PollTimeout, poll};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Serves one client that runs in a thread, as the main loop would.
fn serve<T: Send + 'static>(
    name: &str,
    client: impl FnOnce(PathBuf) -> T + Send + 'static,
) -> (T, Option<PowerAction>) {
    let path = std::env::temp_dir().join(format!("bootwright-ctl-{name}-{}.sock", std::process::id()));
    let mut server = ControlServer::open_at(&path).expect("a free path");
    let mode = std::fs::metadata(&path).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for root only");
    let timeline = Arc::new(Timeline::new(&[], Box::new(std::io::sink())));
    let (waker, _) = wake::pair().expect("a socket pair");
    let paths = ServicePaths { cgroups: None, logs: std::env::temp_dir() };
    let mut supervisor = Supervisor::without_services(paths, timeline.clone(), waker);
    let node = Node::new(boot_config(), Cmdline::default(), timeline, &RealSys);
    let thread = std::thread::spawn({
        let path = path.clone();
        move || client(path)
    });
    let (mut asked, mut longest, began) = (None, Duration::ZERO, Instant::now());
    while !thread.is_finished() {
        let mut fds: Vec<PollFd> = server.fds().map(|(fd, wanted)| PollFd::new(fd, wanted)).collect();
        poll(&mut fds, PollTimeout::from(20u8)).expect("a poll");
        drop(fds);
        let since = Instant::now();
        let now = 5000 + began.elapsed().as_millis() as u64;
        if let Some(PowerRequest(how)) = server.serve(&node, &mut supervisor, &NetState::default(), now) {
            asked = Some(how);
        }
        longest = longest.max(since.elapsed());
    }
    std::fs::remove_file(path).expect("ours");
    assert!(longest < Duration::from_secs(1), "{name}: the main loop was held up for {longest:?}");
    (thread.join().expect("the client"), asked)
}

fn request(command: &str, name: Option<&str>) -> ControlRequest {
    ControlRequest { command: command.into(), name: name.map(String::from), json: command == "status" }
}

#[test]
fn what_is_asked_is_answered() {
    for (command, name, exit, text, how) in [
        ("status", None, 0, "\"uptime_s\":5,", None),
        ("timeline", None, 0, "START  TOOK", None),
        ("reboot", None, 0, "reboot: services are being stopped", Some(PowerAction::Reboot)),
        ("poweroff", None, 0, "poweroff: ", Some(PowerAction::PowerOff)),
        ("restart", Some("x"), 1, "no service `x`: there are none", None),
        ("kill", Some("x"), 1, "no service `x`: there are none", None),
        ("restart", None, 2, "wants the name of a service", None),
        ("frob", None, 2, "unknown command `frob`", None),
    ] {
        let asked = request(command, name);
        let (reply, found) = serve(command, move |path| client::exchange(&path, &asked).expect("an answer"));
        assert_eq!((reply.exit, found), (exit, how), "{command}");
        assert!(reply.text.contains(text), "{command}: {}", reply.text);
    }
}

#[test]
fn rubbish_is_refused_and_hurts_nobody() {
    for (name, bytes) in [
        ("text", b"hello\n".to_vec()),
        ("unknown-key", b"{\"command\":\"status\",\"x\":1}\n".to_vec()),
        ("endless", vec![b'x'; 4600]),
    ] {
        let (answer, how) = serve(name, move |path| {
            let mut stream = UnixStream::connect(path).expect("a server");
            stream.write_all(&bytes).expect("a reader");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("an answer");
            json::from_slice::<ControlReply>(&answer).expect("a reply")
        });
        assert_eq!((answer.exit, how), (2, None), "{name}");
    }
    // A client that goes away in the middle leaves room for the next one.
    let (reply, _) = serve("gone", |path| {
        for _ in 0..40 {
            let mut stream = UnixStream::connect(&path).expect("a server");
            stream.write_all(b"{\"comm").expect("a reader");
        }
        client::exchange(&path, &request("status", None)).expect("an answer")
    });
    assert_eq!(reply.exit, 0);
}

/// What `help` lists and neither the client nor PID1 knows would be a promise that nobody keeps.
#[test]
fn every_command_that_help_lists_is_known_to_pid1_or_to_the_client() {
    let help = client::help();
    let listed: Vec<&str> = help.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let (own, sent): (Vec<&str>, Vec<&str>) =
        listed.iter().partition(|name| ["hardware", "sbom", "sysinfo", "logs", "help", "exit"].contains(name));
    assert_eq!(own.len(), 6, "{help}");
    assert_eq!(sent, ["status", "timeline", "start", "stop", "kill", "restart", "reboot", "poweroff", "halt"]);
    for command in sent {
        let asked = request(command, Some("x"));
        // Other tests serve under the commands' own names.
        let name = format!("listed-{command}");
        let (reply, _) = serve(&name, move |path| client::exchange(&path, &asked).expect("an answer"));
        assert_ne!(reply.exit, 2, "{command}: {}", reply.text);
    }
}

#[test]
fn clients_that_do_not_go_on_hold_up_nobody() {
    let (replies, _) = serve("held", |path| {
        let connect = || UnixStream::connect(&path).expect("a server");
        let half = |count| -> Vec<UnixStream> {
            let asked = (0..count).map(|_| {
                let mut stream = connect();
                stream.write_all(b"{\"comm").expect("a reader");
                stream
            });
            asked.collect()
        };
        // They ask and never read, asked half, or said nothing: a thousand of them.
        let mut deaf: Vec<UnixStream> = (0..20).map(|_| connect()).collect();
        deaf.iter_mut().for_each(|stream| {
            let mut line = serde_json::to_vec(&request("timeline", None)).expect("JSON");
            line.push(b'\n');
            stream.write_all(&line).expect("a reader");
        });
        let halves = half(500);
        let silent: Vec<UnixStream> = (0..500).map(|_| connect()).collect();
        let begin = Instant::now();
        let replies: Vec<ControlReply> =
            (0..5).map(|_| client::exchange(&path, &request("status", None)).expect("an answer")).collect();
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        drop((deaf, halves, silent));
        replies
    });
    assert!(replies.iter().all(|reply| reply.exit == 0), "{replies:?}");
}
