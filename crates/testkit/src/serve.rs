//! `bootwright serve` as a child, on a free port.

use crate::running::free_port;
use crate::tool::tool_path;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A running server; it is killed on drop.
pub struct Serve {
    pub child: Child,
    pub port: u16,
    log: Arc<Mutex<String>>,
}

impl Serve {
    /// Starts it in `dir` and waits until it answers. Machines of QEMU's user networking find it at 10.0.2.2.
    pub fn start(dir: &Path, args: &[&str]) -> Self {
        // Free a moment ago: nothing else on this machine asks for this one.
        Self::start_at(free_port(), dir, args)
    }

    /// The same at that port.
    pub fn start_at(port: u16, dir: &Path, args: &[&str]) -> Self {
        let (listen, url) = (format!("127.0.0.1:{port}"), format!("http://10.0.2.2:{port}"));
        // A process may open 1024 files unless it asks for more, as a login shell has it; tests that are many clients need more.
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -S -n 1024 && exec \"$0\" \"$@\""]).arg(tool_path());
        command.current_dir(dir).args(["serve", "--listen", &listen, "--url", &url]).args(args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let log = Arc::<Mutex<String>>::default();
        let sink = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                sink.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        let mut serve = Self { child, port, log };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(Instant::now() < deadline && serve.child.try_wait().unwrap().is_none(), "{}", serve.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        serve
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// What it said, once `text` is in it.
    #[allow(dead_code, reason = "not every test waits for it")]
    pub fn wait_for_log(&self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "no `{text}` in {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.log()
    }

    /// One request, with the lines of its head; the whole answer.
    pub fn ask(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let length = body.len();
        let request = format!("{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// `status.json`.
    pub fn status(&self) -> Value {
        let answer = self.ask("GET /status.json HTTP/1.1", "");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"))
    }

    /// A node of `status.json`.
    pub fn node(&self, name: &str) -> Value {
        let status = self.status();
        let node = status["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name);
        node.unwrap_or_else(|| panic!("no {name} in {status:#}")).clone()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
