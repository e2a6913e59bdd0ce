//! System calls that change the machine as a whole: mounts, modules, the clock, swap, power, and kernel parameters that
//! a phase depends on. They go through the trait [`Sys`], so that tests can record them and so that an attempt at a
//! phase that was given up can be kept from making more of them ([`Fence`]).
//!
//! These changes of the machine do not go through a [`Sys`]:
//! - sockets and netlink: the crates that speak over them own them;
//! - the host name and the files of the network: the thread `network` lives as long as PID1 and is no attempt at a phase;
//! - cgroups, logs and the control socket: the main loop and its threads, which begin when all phases are over;
//! - knobs of one device that only speed or a repair depends on: read-ahead, the scan for an iSCSI disk, an NFS address;
//! - properties of PID1 itself: prctl(2), mlock(2), Ctrl-Alt-Del;
//! - copies of whole trees, new file systems and devices that are proven (dm-verity): they ask [`Sys::may_change`] before each
//!   change.

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod fence;
mod real;
pub use fence::{Fence, Fenced};
pub use real::RealSys;

#[cfg(any(test, feature = "fake"))]
pub mod fake;

/// Result of a system call.
pub type SysResult<T> = Result<T, Errno>;

/// The command of reboot(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebootCommand {
    PowerOff,
    Restart,
    Halt,
}

/// Arguments of one mount(2).
#[derive(Debug, Clone, Copy)]
pub struct Mount<'a> {
    /// A device, a folder, or a word such as `tmpfs`.
    pub source: &'a Path,
    pub target: &'a Path,
    /// Empty for bind, move and propagation changes.
    pub fstype: &'a str,
    pub flags: MsFlags,
    pub data: &'a str,
}

/// An attached loop device.
pub struct LoopDevice {
    pub path: PathBuf,
    /// The open device. Keep it until the device is mounted: the device detaches itself after its last close or
    /// unmount.
    pub held: Option<File>,
}

/// System calls that need privileges and change the machine. Reads of `/proc` and `/sys` do not go through this trait.
pub trait Sys: Send + Sync {
    /// Whether changes are still allowed; ECANCELED behind a closed [`Fence`]. Code that changes files by itself asks
    /// before each change.
    fn may_change(&self) -> SysResult<()> {
        Ok(())
    }
    /// mount(2).
    fn mount(&self, mount: Mount) -> SysResult<()>;
    /// umount2(2).
    fn unmount(&self, target: &Path, flags: MntFlags) -> SysResult<()>;
    /// Makes a folder and its missing parents (mkdir(2)). A folder that exists is no error.
    fn make_dir(&self, path: &Path) -> SysResult<()>;
    /// Writes a whole file: of procfs, sysfs or cgroupfs, or a small one of its own.
    fn write(&self, path: &Path, text: &str) -> SysResult<()>;
    /// chdir(2).
    fn chdir(&self, path: &Path) -> SysResult<()>;
    /// pivot_root(2).
    fn pivot_root(&self, new: &Path, old: &Path) -> SysResult<()>;
    /// chroot(2).
    fn chroot(&self, path: &Path) -> SysResult<()>;
    /// Attaches a file read-only to a free loop device.
    fn attach_loop(&self, file: &Path) -> SysResult<LoopDevice>;
    /// Sets the read-ahead of a block device in KiB (BLKRASET of linux/fs.h). The file in sysfs would first stop the
    /// device's queue, which takes an RCU grace period.
    fn set_read_ahead(&self, device: &Path, kib: u32) -> SysResult<()>;
    /// Keeps all pages of a file in memory for good (mmap(2) and mlock(2)).
    fn pin(&self, file: &Path) -> SysResult<()>;
    /// Loads a module (finit_module(2)); `compressed` sets MODULE_INIT_COMPRESSED_FILE.
    fn load_module(&self, file: &Path, options: &str, compressed: bool) -> SysResult<()>;
    /// Whether the module is loaded or being loaded; `name` is written with `_` in place of `-`.
    fn has_module(&self, name: &str) -> bool;
    /// delete_module(2).
    fn unload_module(&self, name: &str) -> SysResult<()>;
    /// Seconds since 1970 (CLOCK_REALTIME).
    fn clock_s(&self) -> u64;
    /// clock_settime(2).
    fn set_clock_s(&self, seconds: u64) -> SysResult<()>;
    /// Steps the clock by `seconds` and 0 to 999999999 `nanos` more (adjtimex(2), ADJ_SETOFFSET).
    fn step_clock(&self, seconds: i64, nanos: i64) -> SysResult<()>;
    /// Corrects the clock by `offset_ns` slowly, by its rate. The next correction comes in about `interval_s`.
    fn slew_clock(&self, offset_ns: i64, interval_s: u64) -> SysResult<()>;
    /// swapon(2) with a priority.
    fn swap_on(&self, device: &Path, priority: u16) -> SysResult<()>;
    /// swapoff(2).
    fn swap_off(&self, device: &Path) -> SysResult<()>;
    /// Sends a signal to every process but PID1 (kill(2)).
    fn kill_all(&self, signal: Signal) -> SysResult<()>;
    /// sync(2).
    fn sync(&self);
    /// reboot(2). Returns only when it has failed.
    fn reboot(&self, how: RebootCommand) -> Errno;
}

/// The errno of an I/O error; EIO when std made the error itself.
pub fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Milliseconds on the clock of [`uptime_ms`], which never jumps; also a length of time in milliseconds.
pub type Millis = u64;

/// Time since the kernel started (CLOCK_BOOTTIME).
pub fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// [`uptime`] in milliseconds.
pub fn uptime_ms() -> u64 {
    millis(uptime())
}

/// Whole milliseconds, at most `u64::MAX`.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A length for socket calls. No buffer here has 4 GiB, so nothing is cut off.
pub fn socklen(length: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(length).unwrap_or(libc::socklen_t::MAX)
}

/// Nanoseconds since 1970 (CLOCK_REALTIME).
pub fn clock_ns() -> i128 {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).map(Duration::from).unwrap_or_default();
    now.as_nanos() as i128
}

/// Random bytes (getrandom(2)). The call never waits: early in the boot the bytes may be predictable.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // SAFETY: the buffer is valid for its length. With GRND_INSECURE the call neither waits nor fails for so few bytes.
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, libc::GRND_INSECURE) };
    bytes
}
