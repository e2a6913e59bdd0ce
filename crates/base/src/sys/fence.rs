//! A [`Sys`] that can be closed, so that an attempt that was given up cannot go on changing the machine.

use super::{LoopDevice, Mount, RebootCommand, Sys, SysResult};
use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::sys::signal::Signal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Closes the [`Fenced`] that it was made with. Clones close the same one.
#[derive(Clone, Default)]
pub struct Fence(Arc<FenceState>);

#[derive(Default)]
struct FenceState {
    closed: AtomicBool,
    refused: AtomicBool,
}

impl Fence {
    /// Refuses every change from now on with ECANCELED. A system call that has begun is not interrupted.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
    }

    /// Whether a change has been refused.
    pub fn has_refused(&self) -> bool {
        self.0.refused.load(Ordering::Acquire)
    }

    fn check(&self) -> SysResult<()> {
        if !self.0.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.0.refused.store(true, Ordering::Release);
        Err(Errno::ECANCELED)
    }
}

/// A [`Sys`] behind a [`Fence`].
pub struct Fenced {
    pub sys: &'static dyn Sys,
    pub fence: Fence,
}

impl Sys for Fenced {
    fn may_change(&self) -> SysResult<()> {
        self.fence.check()
    }

    fn mount(&self, mount: Mount) -> SysResult<()> {
        self.fence.check().and_then(|()| self.sys.mount(mount))
    }

    fn unmount(&self, target: &Path, flags: MntFlags) -> SysResult<()> {
        self.fence.check().and_then(|()| self.sys.unmount(target, flags))
    }

    fn make_dir(&self, path: &Path) -> SysResult<()> {
        self.fence.check().and_then(|()| self.sys.make_dir(path))
    }

    fn write(&self, path: &Path, text: &str) -> SysResult<()> {
        self.fence.check().and_then(|()| self.sys.write(path, text))
    }

    fn chdir(&self, path: &Path) -> SysResult<()> {
        self.fence.check().and_then(|()| self.sys.chdir(path))
    }

    fn pivot_root(&self, new: &Path, old: &Path) -> SysResult<()> {
        self.fence.check().and_then(|()| self.sys.pivot_root(new, old))
    }

    fn chroot(&self, path: &Path) -> SysResult<()> {
        self.fence.check().and_then(|()| self.sys.chroot(path))
    }

    fn attach_loop(&self, file: &Path) -> SysResult<LoopDevice> {
        self.fence.check().and_then(|()| self.sys.attach_loop(file))
    }

    fn set_read_ahead(&self, device: &Path, kib: u32) -> SysResult<()> {
        self.fence.check().and_then(|()| self.sys.set_read_ahead(device, kib))
    }

    fn pin(&self, file: &Path) -> SysResult<()> {
        self.fence.check().and_then(|()| self.sys.pin(file))
    }

    fn load_module(&self, file: &Path, options: &str, compressed: bool) -> SysResult<()> {
        self.fence.check().and_then(|()| self.sys.load_module(file, options, compressed))
    }

    fn has_module(&self, name: &str) -> bool {
        self.sys.has_module(name)
    }

    fn unload_module(&self, name: &str) -> SysResult<()> {
        self.fence.check().and_then(|()| self.sys.unload_module(name))
    }

    fn clock_s(&self) -> u64 {
        self.sys.clock_s()
    }

    fn set_clock_s(&self, seconds: u64) -> SysResult<()> {
        self.fence.check().and_then(|()| self.sys.set_clock_s(seconds))
    }

    fn step_clock(&self, seconds: i64, nanos: i64) -> SysResult<()> {
        self.fence.check().and_then(|()| self.sys.step_clock(seconds, nanos))
    }

    fn slew_clock(&self, offset_ns: i64, interval_s: u64) -> SysResult<()> {
        self.fence.check().and_then(|()| self.sys.slew_clock(offset_ns, interval_s))
    }

    fn swap_on(&self, device: &Path, priority: u16) -> SysResult<()> {
        self.fence.check().and_then(|()| self.sys.swap_on(device, priority))
    }

    fn swap_off(&self, device: &Path) -> SysResult<()> {
        self.fence.check().and_then(|()| self.sys.swap_off(device))
    }

    fn kill_all(&self, signal: Signal) -> SysResult<()> {
        self.fence.check().and_then(|()| self.sys.kill_all(signal))
    }

    fn sync(&self) {
        self.sys.sync();
    }

    fn reboot(&self, how: RebootCommand) -> Errno {
        self.fence.check().map_or_else(|refused| refused, |()| self.sys.reboot(how))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeSys;
    use super::*;

    #[test]
    fn nothing_gets_through_a_closed_fence() {
        let fake: &'static FakeSys = Box::leak(Box::default());
        let fence = Fence::default();
        let sys = Fenced { sys: fake, fence: fence.clone() };
        assert_eq!(sys.make_dir(Path::new("/a")), Ok(()));
        fence.close();
        assert!(!fence.has_refused());
        assert_eq!(sys.make_dir(Path::new("/b")), Err(Errno::ECANCELED));
        assert_eq!(sys.reboot(RebootCommand::Restart), Errno::ECANCELED);
        assert!(sys.has_module("there") && fence.has_refused());
        assert_eq!(fake.calls(), ["make_dir /a"]);
    }
}
