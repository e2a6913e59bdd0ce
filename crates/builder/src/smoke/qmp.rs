//! As much of QMP as a smoke boot needs (docs/interop/qmp-spec.rst of QEMU): one JSON object a line, a greeting, `qmp_capabilities`,
//! then commands; events come in between and are passed over.

use super::SmokeError;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// An open connection.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects as soon as QEMU has made the socket, at most until `deadline`.
    pub fn connect(socket: &Path, deadline: Instant) -> Result<Self, SmokeError> {
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(cause) if Instant::now() >= deadline => return Err(problem(cause)),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
        stream.set_read_timeout(Some(left)).map_err(problem)?;
        let mut qmp = Self { stream: BufReader::new(stream) };
        let greeting = qmp.read()?;
        if greeting.get("QMP").is_none() {
            return Err(problem(format!("unexpected greeting {greeting}")));
        }
        qmp.run("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns what it returned.
    pub fn run(&mut self, command: &str, arguments: Value) -> Result<Value, SmokeError> {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        self.stream.get_mut().write_all(line.as_bytes()).map_err(problem)?;
        loop {
            let mut answer = self.read()?;
            if let Some(error) = answer.get("error") {
                return Err(problem(format!("`{command}`: {error}")));
            }
            if let Some(returned) = answer.get_mut("return") {
                return Ok(returned.take());
            }
        }
    }

    /// The port on 127.0.0.1 that leads to the guest's port 22, from the monitor's `info usernet`.
    pub fn forwarded_port(&mut self) -> Result<u16, SmokeError> {
        let text = self.run("human-monitor-command", json!({ "command-line": "info usernet" }))?;
        let text = text.as_str().unwrap_or_default();
        parse_forwarded_port(text).ok_or_else(|| problem(format!("no forwarded port in {text:?}")))
    }

    fn read(&mut self) -> Result<Value, SmokeError> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err(problem("the connection was closed")),
            Ok(_) => serde_json::from_str(&line).map_err(problem),
            Err(cause) => Err(problem(cause)),
        }
    }
}

fn problem(problem: impl ToString) -> SmokeError {
    SmokeError::Qmp { problem: problem.to_string() }
}

/// Lines look like `TCP[HOST_FORWARD]   8   127.0.0.1 40747   10.0.2.15    22     0     0` (net/slirp.c, slirp_connection_info).
fn parse_forwarded_port(text: &str) -> Option<u16> {
    let line = text.lines().find(|l| l.contains("TCP[HOST_FORWARD]"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_forwarded_port_is_read_from_the_monitor() {
        let text = "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                    TCP[HOST_FORWARD]   8       127.0.0.1 40747       10.0.2.15    22     0     0\r\n";
        assert_eq!(parse_forwarded_port(text), Some(40747));
        assert_eq!(parse_forwarded_port(""), None);
    }

    #[test]
    fn events_between_answers_are_passed_over_and_errors_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = BufReader::new(stream);
            let answers = ["{\"return\":{}}", "{\"event\":\"STOP\"}\n{\"return\":7}", "{\"error\":{\"class\":\"X\"}}"];
            stream.get_mut().write_all(b"{\"QMP\":{}}\n").unwrap();
            for answer in answers {
                stream.read_line(&mut String::new()).unwrap();
                stream.get_mut().write_all(format!("{answer}\n").as_bytes()).unwrap();
            }
        });
        let mut qmp = Qmp::connect(&path, Instant::now() + Duration::from_secs(10)).unwrap();
        assert_eq!(qmp.run("a", json!({})).unwrap(), 7);
        assert!(qmp.run("b", json!({})).unwrap_err().to_string().contains("`b`"));
        server.join().unwrap();
    }
}
