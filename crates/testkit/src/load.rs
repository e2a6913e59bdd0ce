//! A load on a running machine that reads its whole root image again and again, past every cache, and writes meanwhile.

use crate::running::{Running, wait_until};
use crate::ssh::ssh_ok;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Rounds that must follow a recovery.
const ROUNDS: usize = 2;

/// One round: the image's hash, then a copy of libraries and modules that is compared with them.
const SCRIPT: &str = r#"
while true; do
    echo 3 > /proc/sys/vm/drop_caches
    echo "read $(READ)" || echo "error: read"
    busybox rm -rf /var/tmp/copy
    busybox cp -a /usr/lib /var/tmp/copy || echo "error: write"
    busybox diff -r /usr/lib /var/tmp/copy || echo "error: differs"
done
"#;

/// Reads every file of a root below `BELOW` and hashes names and contents, but for the one that the config segment lays over
/// each root: no server has that.
pub const READ_ALL: &str =
    "cd BELOW && find usr -type f ! -path usr/lib/os-release | LC_ALL=C sort | xargs sha256sum | sha256sum";

/// What a command such as [`READ_ALL`] finds in the tree that a server has.
pub fn read_here(command: &str, tree: &Path) -> String {
    let here = Command::new("sh").arg("-c").arg(command.replace("BELOW", &tree.display().to_string())).output();
    String::from_utf8(here.expect("a shell").stdout).expect("a hash").trim().into()
}

/// Starts the load and waits for its first round.
pub fn start(machine: &Running, device: &str) {
    start_reading(machine, &format!("busybox sha256sum < {device}"));
}

/// The same with a command that reads all there is, and prints what it found.
pub fn start_reading(machine: &Running, command: &str) {
    let script = SCRIPT.replace("READ", command);
    ssh_ok(machine, &format!("cat > /run/load <<'EOF'\n{script}\nEOF"));
    ssh_ok(machine, "busybox setsid sh /run/load > /run/load.log 2>&1 < /dev/null &");
    await_rounds(machine, 1);
}

/// Waits for more rounds and checks all of them: every byte of the image each time, and no error ever.
pub fn check(machine: &Running, image: &Path) {
    let expected = hex::encode(Sha256::digest(std::fs::read(image).expect("the image was built")));
    check_reading(machine, &format!("{expected}  -"));
}

/// The same for a command's result.
pub fn check_reading(machine: &Running, expected: &str) {
    let before = rounds(machine).len();
    await_rounds(machine, before + ROUNDS);
    let log = ssh_ok(machine, "cat /run/load.log; dmesg");
    for line in rounds(machine) {
        assert_eq!(line, format!("read {expected}"), "{log}");
    }
    for bad in ["error:", "I/O error", "SQUASHFS error", "EXT4-fs error"] {
        assert!(!log.contains(bad), "{log}");
    }
}

/// Lines of the rounds so far.
fn rounds(machine: &Running) -> Vec<String> {
    let log = ssh_ok(machine, "cat /run/load.log");
    log.lines().filter(|line| line.starts_with("read ")).map(String::from).collect()
}

fn await_rounds(machine: &Running, count: usize) {
    wait_until("the load goes on", Duration::from_secs(120), || rounds(machine).len() >= count);
}
