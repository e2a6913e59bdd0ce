//! What runs on the machine: a writer on the volume and a reader of the root that tell the console of each piece done.

use crate::lab::Lab;
use testkit::running::Running;
use testkit::ssh::ssh_ok;

/// Bytes of a block.
const BLOCK: usize = 64 << 10;
/// Blocks of the file; the writer goes round in it.
const BLOCKS: usize = 512;

/// Each block is another one, is on the server before the next, and is read back from there.
const WRITE: &str = r#"
n=0
while [ ! -e /run/stop ]; do
    busybox yes "block $n" | busybox head -c 65536 > /run/block
    at=$((n % 512))
    busybox dd if=/run/block of=/srv/data bs=64k seek=$at conv=notrunc,fsync 2> /run/dd || echo "error: write $n"
    echo 1 > /proc/sys/vm/drop_caches
    busybox dd if=/srv/data bs=64k skip=$at count=1 2> /run/dd2 | busybox cmp - /run/block || echo "error: differs $n"
    n=$((n + 1))
    echo $n > /run/blocks
    echo "written $n" > /dev/ttyS0
done
busybox touch /run/write.stopped
"#;

const PROBE: &str = r#"
n=0
while [ ! -e /run/stop ]; do
    echo 1 > /proc/sys/vm/drop_caches
    COMMAND > /dev/null 2> /run/probe.dd || echo "error: probe $n"
    n=$((n + 1))
    echo "probed $n" > /dev/ttyS0
    busybox sleep 0.2
done
busybox touch /run/probe.stopped
"#;

/// Starts both.
pub fn start(machine: &Running, lab: &Lab) {
    // From here on the kernel does not tell each time that it dropped its caches (Documentation/admin-guide/sysctl/vm.rst).
    ssh_ok(machine, "echo 4 > /proc/sys/vm/drop_caches");
    for (name, script) in [("write", WRITE.to_string()), ("probe", PROBE.replace("COMMAND", lab.probe()))] {
        ssh_ok(machine, &format!("cat > /run/{name} <<'EOF'\n{script}\nEOF"));
        ssh_ok(machine, &format!("busybox setsid sh /run/{name} > /run/{name}.log 2>&1 < /dev/null &"));
    }
}

/// Whether the console's text tells of a piece that was read, and of one that was written.
pub fn went_on(console: &str) -> [bool; 2] {
    ["probed ", "written "].map(|word| console.contains(word))
}

/// Stops both and gives the number of blocks that were written; all without error.
pub fn stop(machine: &Running) -> usize {
    ssh_ok(
        machine,
        "touch /run/stop; until [ -e /run/write.stopped -a -e /run/probe.stopped ]; do busybox sleep 0.2; done",
    );
    let log = ssh_ok(machine, "cat /run/write.log /run/probe.log");
    assert!(log.is_empty(), "{log}");
    ssh_ok(machine, "cat /run/blocks").trim().parse().expect("a number of blocks")
}

/// The last round of blocks is on the server, every byte.
pub fn check(lab: &Lab, count: usize) {
    let bytes = lab.written("data");
    for block in count.saturating_sub(BLOCKS)..count {
        let expected: Vec<u8> = format!("block {block}\n").bytes().cycle().take(BLOCK).collect();
        assert!(bytes[block % BLOCKS * BLOCK..][..BLOCK] == expected, "block {block} of {count} differs");
    }
}
