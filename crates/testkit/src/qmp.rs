//! Commands to a QEMU of a test's, by its machine protocol.

use crate::vm::wait_until;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Runs one command, which must succeed.
pub fn qmp(socket: &Path, name: &str, arguments: Value) {
    wait_until("QEMU listens", Duration::from_secs(30), || UnixStream::connect(socket).is_ok());
    let mut stream = UnixStream::connect(socket).expect("it listens");
    let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
    for (name, arguments) in [("qmp_capabilities", json!({})), (name, arguments)] {
        writeln!(stream, "{}", json!({ "execute": name, "arguments": arguments })).expect("QEMU reads");
        let answer = lines
            .by_ref()
            .map(|line| line.expect("QEMU writes"))
            .find(|line| line.contains("\"return\"") || line.contains("\"error\""));
        let answer = answer.expect("an answer");
        assert!(answer.contains("\"return\""), "{name}: {answer}");
    }
}
