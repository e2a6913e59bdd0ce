//! The end: processes, file systems, then `reboot(2)`.

use crate::boot::Boot;
use crate::sys::{RebootHow, Sys};
use crate::timeline::Timeline;
use crate::watchdog;
use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How the machine goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    PowerOff,
    Reboot,
    Halt,
}

impl How {
    /// The word on the console and on the control socket.
    pub fn word(self) -> &'static str {
        match self {
            How::PowerOff => "poweroff",
            How::Reboot => "reboot",
            How::Halt => "halt",
        }
    }

    fn system_call(self) -> RebootHow {
        match self {
            How::PowerOff => RebootHow::PowerOff,
            How::Reboot => RebootHow::Restart,
            How::Halt => RebootHow::Halt,
        }
    }
}

/// How long processes that supervision did not know may take after SIGTERM.
const TERM_WAIT: Duration = Duration::from_secs(3);
/// How long they may take to vanish after SIGKILL.
const KILL_WAIT: Duration = Duration::from_secs(2);
/// How long swap, file systems and disks may take; a dead server must not keep the machine up.
const UNMOUNT_WAIT: Duration = Duration::from_secs(10);
/// How long file systems may take to close once their servers are given up.
const LET_GO_WAIT: Duration = Duration::from_secs(1);
/// How long a server may take to say goodbye.
const DETACH_WAIT: Duration = Duration::from_secs(3);
/// All of that together, and a little more; then the hardware watchdog is left alone.
const LAST_STEPS: Duration = Duration::from_secs(30);
/// Mounts that stay to the end: the kernel's own, and the root with what PID1 runs from.
const KEPT: &[&str] = &["/", "/dev", "/proc", "/sys", "/run"];

/// Takes the machine down; services have been stopped already.
pub fn go_down(boot: &Arc<Boot>, how: How) -> ! {
    watchdog::keep_alive(boot, LAST_STEPS);
    end_processes(boot.sys);
    let sys = boot.sys;
    let (done, wait) = mpsc::channel();
    // In a thread: a file system whose server is gone can hang here for ever.
    let closer = thread::Builder::new().spawn(move || {
        close_filesystems(sys);
        // Nobody waits any more when the deadline is over.
        let _ = done.send(());
    });
    let closed = closer.is_ok() && wait.recv_timeout(UNMOUNT_WAIT).is_ok();
    if !closed {
        boot.timeline.note("file systems did not close in time; going down regardless");
    }
    // Also then: what waits for a server that is gone fails with its connection. The kernel would else wait for it too,
    // as it has disks write their caches before it goes down.
    detach_all(boot);
    if !closed {
        // What failed now may still let go of other disks.
        let _ = wait.recv_timeout(LET_GO_WAIT);
    }
    boot.timeline.down(how.word());
    if how != How::Reboot && boot.config.watchdog.as_ref().is_some_and(|watchdog| watchdog.disarm) {
        boot.watchdog.disarm();
    }
    let errno = sys.reboot(how.system_call());
    halt_and_explain(&boot.timeline, "down", &format!("the kernel refused to {}: {errno}", how.word()))
}

/// Ends the connections of network root and volumes; nothing is mounted from them any more but the root itself.
fn detach_all(boot: &Boot) {
    for keeper in boot.keepers.take() {
        let what = keeper.describe();
        if let Err(error) = keeper.detach(DETACH_WAIT) {
            boot.timeline.note(&[&what[..], " did not end in order: ", &error.to_string()].concat());
        }
    }
}

fn end_processes(sys: &dyn Sys) {
    for (signal, patience) in [(Signal::SIGTERM, TERM_WAIT), (Signal::SIGKILL, KILL_WAIT)] {
        // ESRCH: nobody is left.
        if sys.kill_all(signal) == Err(Errno::ESRCH) || reap_all(patience) {
            return;
        }
    }
}

/// Reaps until no child is left or the patience is over; true when none is left.
fn reap_all(patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return true,
            Ok(WaitStatus::StillAlive) | Err(_) => {
                if Instant::now() >= until {
                    return false;
                }
                thread::sleep(Duration::from_millis(10));
            }
            Ok(_) => {}
        }
    }
}

/// Swap off, everything unmounted in reverse order, the rest read-only, caches written.
fn close_filesystems(sys: &dyn Sys) {
    sys.sync();
    for device in parse_swaps(&fs::read_to_string("/proc/swaps").unwrap_or_default()) {
        // What is still swapped out is lost with the memory anyway.
        let _ = sys.swap_off(&device);
    }
    let mounts = parse_mount_points(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    unmount_all(sys, &mounts);
    sys.sync();
}

/// Unmounts in reverse order; what is busy is detached, so that a disk below it is closed at least.
fn unmount_all(sys: &dyn Sys, mounts: &[PathBuf]) {
    let kept = |p: &Path| KEPT.iter().any(|k| p == Path::new(k)) || p.starts_with("/dev") || p.starts_with("/sys");
    for target in mounts.iter().rev().filter(|p| !kept(p)) {
        if sys.unmount(target, MntFlags::empty()).is_err() {
            // A mount that cannot even be detached stays; `sync` has written what it held.
            let _ = sys.unmount(target, MntFlags::MNT_DETACH);
        }
    }
    let root = crate::sys::Mount { source: "", target: Path::new("/"), fstype: "", flags: READ_ONLY_AGAIN, data: "" };
    // An overlay whose files are still open refuses; it is memory.
    let _ = sys.mount(root);
}

const READ_ONLY_AGAIN: nix::mount::MsFlags = nix::mount::MsFlags::MS_REMOUNT.union(nix::mount::MsFlags::MS_RDONLY);

/// Mount points of `/proc/self/mountinfo` (proc_pid_mountinfo(5)): fifth field, `\040` for a blank.
pub fn parse_mount_points(text: &str) -> Vec<PathBuf> {
    text.lines().filter_map(|l| l.split(' ').nth(4)).map(|p| PathBuf::from(unescape(p))).collect()
}

/// Devices of `/proc/swaps` (proc(5)): first field, after a heading.
fn parse_swaps(text: &str) -> Vec<PathBuf> {
    text.lines().skip(1).filter_map(|l| l.split_whitespace().next()).map(|p| PathBuf::from(unescape(p))).collect()
}

/// Undoes the kernel's `\ooo` escapes.
fn unescape(field: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = field.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let digits: Vec<u8> = bytes.clone().take(3).take_while(|b| (b'0'..=b'7').contains(b)).collect();
        if byte == b'\\' && digits.len() == 3 {
            out.push(digits.iter().fold(0u8, |n, d| n.wrapping_mul(8).wrapping_add(d - b'0')));
            bytes.nth(2);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `bw.poweroff_after_s`: asks the main loop for an orderly end after that time, as a signal from outside would.
pub fn power_off_later(after_s: u64) {
    let ask = move || {
        thread::sleep(Duration::from_secs(after_s));
        // PID1 reads it in its main loop; there is nobody to tell if it cannot be sent.
        let _ = kill(Pid::this(), Signal::SIGTERM);
    };
    // Without a thread the machine stays up, which shows by itself.
    let _ = thread::Builder::new().spawn(ask);
}

/// Reboots after a pause in which the reason can be read on the console.
pub fn reboot_after(sys: &dyn Sys, timeline: &Timeline, after_s: u32) -> ! {
    timeline.note(&format!("reboot in {after_s} s"));
    thread::sleep(Duration::from_secs(u64::from(after_s)));
    sys.sync();
    timeline.down(How::Reboot.word());
    let errno = sys.reboot(RebootHow::Restart);
    halt_and_explain(timeline, "down", &format!("the kernel refused to reboot: {errno}"))
}

/// Nothing more can be done: says why, for good.
pub fn halt_and_explain(timeline: &Timeline, phase: &str, reason: &str) -> ! {
    timeline.fatal(phase, reason);
    keep_explaining(timeline, phase, reason)
}

/// Repeats the reason every 30 s, for whoever looks at the console later.
pub fn keep_explaining(timeline: &Timeline, phase: &str, reason: &str) -> ! {
    loop {
        thread::sleep(Duration::from_secs(30));
        timeline.fatal(phase, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::Fake;

    #[test]
    fn mount_points_are_unescaped() {
        let text =
            "22 1 0:20 / / rw - overlay overlay rw\n30 22 0:5 / /mnt/a\\040b\\134c rw shared:1 - tmpfs tmpfs rw\n";
        assert_eq!(parse_mount_points(text), [PathBuf::from("/"), PathBuf::from("/mnt/a b\\c")]);
        assert_eq!(parse_mount_points("broken line"), Vec::<PathBuf>::new());
        assert_eq!(unescape("\\9\\04"), "\\9\\04");
    }

    #[test]
    fn swaps_skip_the_heading() {
        let text = "Filename\tType\tSize\tUsed\tPriority\n/dev/zram0  partition\t65532\t0\t100\n";
        assert_eq!(parse_swaps(text), [PathBuf::from("/dev/zram0")]);
    }

    #[test]
    fn unmounts_in_reverse_and_keeps_the_kernels_own() {
        let fake = Fake::failing(&["unmount /var 0"]);
        let mounts: Vec<PathBuf> = ["/", "/proc", "/dev/pts", "/var", "/var/lib"].iter().map(PathBuf::from).collect();
        unmount_all(&fake, &mounts);
        let calls = fake.calls();
        assert_eq!(calls[..3], ["unmount /var/lib 0", "unmount /var 0", "unmount /var 2"]);
        assert!(calls[3].starts_with("mount  / "), "{calls:?}");
        assert_eq!(calls.len(), 4);
    }
}
