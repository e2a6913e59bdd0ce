//! The kernel itself.

use super::errno;
use super::{LoopDevice, Mount, RebootCommand, Sys, SysResult};
use crate::background;
use crate::channel::channel;
use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, mount, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use nix::unistd::{Pid, chdir, chroot};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

mod loops;

/// How long sync(2) may take.
const SYNC_WAIT: Duration = Duration::from_secs(10);
/// How long reboot(2) may take: drivers shut their devices down first.
const REBOOT_WAIT: Duration = Duration::from_secs(20);

/// `BLKRASET` of linux/fs.h, `_IO(0x12, 98)`: in sectors of 512 bytes.
const BLKRASET: u32 = 0x1262;
/// `MODULE_INIT_COMPRESSED_FILE` of linux/module.h.
const MODULE_INIT_COMPRESSED_FILE: libc::c_int = 4;

/// The running kernel.
pub struct RealSys;

impl Sys for RealSys {
    fn mount(&self, m: Mount) -> SysResult<()> {
        let fstype = Some(m.fstype).filter(|t| !t.is_empty());
        let data = Some(m.data).filter(|d| !d.is_empty());
        mount(Some(m.source), m.target, fstype, m.flags, data)
    }

    fn unmount(&self, target: &Path, flags: MntFlags) -> SysResult<()> {
        umount2(target, flags)
    }

    fn make_dir(&self, path: &Path) -> SysResult<()> {
        fs::create_dir_all(path).map_err(errno)
    }

    fn write(&self, path: &Path, text: &str) -> SysResult<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path).map_err(errno)?;
        file.write_all(text.as_bytes()).map_err(errno)
    }

    fn chdir(&self, path: &Path) -> SysResult<()> {
        chdir(path)
    }

    fn pivot_root(&self, new: &Path, old: &Path) -> SysResult<()> {
        nix::unistd::pivot_root(new, old)
    }

    fn chroot(&self, path: &Path) -> SysResult<()> {
        chroot(path)
    }

    fn attach_loop(&self, file: &Path) -> SysResult<LoopDevice> {
        loops::attach(file)
    }

    fn set_read_ahead(&self, device: &Path, kib: u32) -> SysResult<()> {
        let device = File::open(device).map_err(errno)?;
        let sectors = libc::c_ulong::from(kib) * 2;
        // SAFETY: an open descriptor and a number.
        Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), BLKRASET as _, sectors) }).map(drop)
    }

    fn pin(&self, file: &Path) -> SysResult<()> {
        let file = File::open(file).map_err(errno)?;
        let length = usize::try_from(file.metadata().map_err(errno)?.len()).map_err(|_| Errno::EFBIG)?;
        let (any, fd) = (std::ptr::null_mut(), file.as_raw_fd());
        // SAFETY: a new mapping at an address of the kernel's choice; nothing reads through it, and it stays for good.
        let mapped = unsafe { libc::mmap(any, length, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
        if mapped == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        // SAFETY: the range is the mapping just made.
        Errno::result(unsafe { libc::mlock(mapped, length) }).map(drop)
    }

    fn load_module(&self, file: &Path, options: &str, compressed: bool) -> SysResult<()> {
        let file = File::open(file).map_err(errno)?;
        let options = CString::new(options).map_err(|_| Errno::EINVAL)?;
        let flags = if compressed { MODULE_INIT_COMPRESSED_FILE } else { 0 };
        // SAFETY: the descriptor and the NUL-terminated string live until the call returns.
        let done = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), options.as_ptr(), flags) };
        Errno::result(done).map(drop)
    }

    fn has_module(&self, name: &str) -> bool {
        // Built-in modules have a folder too, but no `initstate`.
        Path::new("/sys/module").join(name).join("initstate").exists()
    }

    fn unload_module(&self, name: &str) -> SysResult<()> {
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the NUL-terminated string lives until the call returns.
        let done = unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) };
        Errno::result(done).map(drop)
    }

    fn clock_s(&self) -> u64 {
        clock_gettime(ClockId::CLOCK_REALTIME).map(|t| t.tv_sec().max(0) as u64).unwrap_or(0)
    }

    fn set_clock_s(&self, seconds: u64) -> SysResult<()> {
        let seconds = i64::try_from(seconds).map_err(|_| Errno::EINVAL)?;
        clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(seconds, 0))
    }

    fn step_clock(&self, seconds: i64, nanos: i64) -> SysResult<()> {
        // SAFETY: plain data, for which zeros are valid.
        let mut timex: libc::timex = unsafe { std::mem::zeroed() };
        timex.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
        // With ADJ_NANO the microseconds are nanoseconds.
        (timex.time.tv_sec, timex.time.tv_usec) = (seconds, nanos);
        adjust(&mut timex)?;
        mark_synchronised()
    }

    fn slew_clock(&self, offset_ns: i64, interval_s: u64) -> SysResult<()> {
        // SAFETY: as above.
        let mut timex: libc::timex = unsafe { std::mem::zeroed() };
        if offset_ns.abs() < LARGEST_LOOP_NS {
            // The kernel's loop (ADJ_STATUS with STA_PLL) also learns the rate of the clock's own error.
            timex.modes = libc::ADJ_OFFSET | libc::ADJ_NANO | libc::ADJ_TIMECONST | libc::ADJ_STATUS;
            timex.offset = offset_ns;
            timex.status = libc::STA_PLL;
            // The time constant is the logarithm of the interval, less 4 (adjtimex(2)).
            timex.constant = i64::from(interval_s.max(16).ilog2()) - 4;
        } else {
            timex.modes = libc::ADJ_OFFSET_SINGLESHOT;
            timex.offset = offset_ns / 1000;
        }
        adjust(&mut timex)?;
        mark_synchronised()
    }

    fn swap_on(&self, device: &Path, priority: u16) -> SysResult<()> {
        /// `SWAP_FLAG_PREFER` of linux/swap.h.
        const SWAP_FLAG_PREFER: libc::c_int = 0x8000;
        let device = c_path(device)?;
        let flags = SWAP_FLAG_PREFER | libc::c_int::from(priority & 0x7fff);
        // SAFETY: the NUL-terminated string lives until the call returns.
        Errno::result(unsafe { libc::swapon(device.as_ptr(), flags) }).map(drop)
    }

    fn swap_off(&self, device: &Path) -> SysResult<()> {
        let device = c_path(device)?;
        // SAFETY: the NUL-terminated string lives until the call returns.
        Errno::result(unsafe { libc::swapoff(device.as_ptr()) }).map(drop)
    }

    fn kill_all(&self, signal: Signal) -> SysResult<()> {
        kill(Pid::from_raw(-1), signal)
    }

    fn sync(&self) {
        // Data that a server has not taken by then is lost.
        let _ = within(SYNC_WAIT, nix::unistd::sync);
    }

    fn reboot(&self, how: RebootCommand) -> Errno {
        let mode = match how {
            RebootCommand::PowerOff => RebootMode::RB_POWER_OFF,
            RebootCommand::Restart => RebootMode::RB_AUTOBOOT,
            RebootCommand::Halt => RebootMode::RB_HALT_SYSTEM,
        };
        let asked = within(REBOOT_WAIT, move || match reboot(mode) {
            Err(errno) => errno,
            Ok(never) => match never {},
        });
        match asked {
            Some(errno) => errno,
            None => {
                // The kernel may wait for a disk whose server is gone. This resets the machine at once
                // (Documentation/admin-guide/sysrq.rst).
                let _ = fs::write("/proc/sysrq-trigger", "b");
                Errno::EBUSY
            }
        }
    }
}

/// Runs a system call in its own thread; returns `None` when the call has not returned within `limit`. When no thread
/// can be made, the call is made here, without a limit.
fn within<T: Send + 'static>(limit: Duration, call: impl FnOnce() -> T + Send + Clone + 'static) -> Option<T> {
    let (done, wait) = channel();
    let work = call.clone();
    match background::spawn("call", Box::new(move || drop(done.send(work())))) {
        Ok(_) => wait.recv_timeout(limit).ok(),
        Err(_) => Some(call()),
    }
}

fn c_path(path: &Path) -> SysResult<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

/// Largest offset that the kernel's phase-locked loop takes (`MAXPHASE` of linux/timex.h).
const LARGEST_LOOP_NS: i64 = 500_000_000;

fn adjust(timex: &mut libc::timex) -> SysResult<()> {
    // SAFETY: a valid struct timex.
    Errno::result(unsafe { libc::adjtimex(timex) }).map(drop)
}

/// Tells the kernel that its clock is right. The kernel then also sets the hardware clock now and then (rtc(4)), and
/// tells programs that ask.
fn mark_synchronised() -> SysResult<()> {
    // SAFETY: plain data, for which zeros are valid.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    timex.modes = libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
    timex.status = libc::STA_PLL;
    adjust(&mut timex)
}
