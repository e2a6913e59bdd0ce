//! For tests: a kernel that only records what it is asked for, one line for each call.

#![expect(clippy::expect_used, reason = "only tests use it")]

use super::{LoopDevice, Mount, RebootCommand, Sys, SysResult};
use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::sys::signal::Signal;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

/// The recording. Calls whose line starts with an entry of `failing` are recorded and answered with EPERM.
#[derive(Default)]
pub struct FakeSys {
    calls: Mutex<Vec<String>>,
    failing: Vec<String>,
}

impl FakeSys {
    pub fn failing(prefixes: &[&str]) -> FakeSys {
        FakeSys { calls: Mutex::default(), failing: prefixes.iter().map(|p| p.to_string()).collect() }
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.calls.lock().expect("no test panics while it holds the recording")
    }

    fn record(&self, call: String) -> SysResult<()> {
        let fails = self.failing.iter().any(|p| call.starts_with(p.as_str()));
        self.lock().push(call);
        if fails { Err(Errno::EPERM) } else { Ok(()) }
    }
}

impl Sys for FakeSys {
    fn mount(&self, m: Mount) -> SysResult<()> {
        let Mount { source, fstype, data, .. } = m;
        let source = source.display();
        self.record(format!("mount {source} {} {fstype} {:#x} {data}", m.target.display(), m.flags.bits()))
    }

    fn unmount(&self, target: &Path, flags: MntFlags) -> SysResult<()> {
        self.record(format!("unmount {} {}", target.display(), flags.bits()))
    }

    fn make_dir(&self, path: &Path) -> SysResult<()> {
        self.record(format!("make_dir {}", path.display()))
    }

    fn write(&self, path: &Path, text: &str) -> SysResult<()> {
        self.record(format!("write {} {text}", path.display()))
    }

    fn chdir(&self, path: &Path) -> SysResult<()> {
        self.record(format!("chdir {}", path.display()))
    }

    fn pivot_root(&self, new: &Path, old: &Path) -> SysResult<()> {
        self.record(format!("pivot_root {} {}", new.display(), old.display()))
    }

    fn chroot(&self, path: &Path) -> SysResult<()> {
        self.record(format!("chroot {}", path.display()))
    }

    fn attach_loop(&self, file: &Path) -> SysResult<LoopDevice> {
        self.record(format!("attach_loop {}", file.display()))?;
        Ok(LoopDevice { path: "/dev/loop7".into(), held: None })
    }

    fn set_read_ahead(&self, device: &Path, kib: u32) -> SysResult<()> {
        self.record(format!("set_read_ahead {} {kib}", device.display()))
    }

    fn pin(&self, file: &Path) -> SysResult<()> {
        self.record(format!("pin {}", file.display()))
    }

    fn load_module(&self, file: &Path, options: &str, compressed: bool) -> SysResult<()> {
        self.record(format!("load_module {} {options} {compressed}", file.display()))
    }

    fn has_module(&self, name: &str) -> bool {
        name == "there"
    }

    fn unload_module(&self, name: &str) -> SysResult<()> {
        self.record(format!("unload_module {name}"))
    }

    fn clock_s(&self) -> u64 {
        1000
    }

    fn set_clock_s(&self, seconds: u64) -> SysResult<()> {
        self.record(format!("set_clock {seconds}"))
    }

    fn step_clock(&self, seconds: i64, nanos: i64) -> SysResult<()> {
        self.record(format!("step_clock {seconds} {nanos}"))
    }

    fn slew_clock(&self, offset_ns: i64, interval_s: u64) -> SysResult<()> {
        self.record(format!("slew_clock {offset_ns} {interval_s}"))
    }

    fn swap_on(&self, device: &Path, priority: u16) -> SysResult<()> {
        self.record(format!("swap_on {} {priority}", device.display()))
    }

    fn swap_off(&self, device: &Path) -> SysResult<()> {
        self.record(format!("swap_off {}", device.display()))
    }

    fn kill_all(&self, signal: Signal) -> SysResult<()> {
        self.record(format!("kill_all {signal}"))
    }

    fn sync(&self) {
        self.lock().push("sync".into());
    }

    fn reboot(&self, how: RebootCommand) -> Errno {
        self.lock().push(format!("reboot {how:?}"));
        Errno::EPERM
    }
}
