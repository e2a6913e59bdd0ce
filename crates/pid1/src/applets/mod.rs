//! Programs that the same binary is under other names: kubelet, CNI plugins and the kernel call them.

mod modprobe;
mod mount;
mod umount;

use std::ffi::OsString;
use std::process::ExitCode;

/// A program: takes the arguments without the name, which may hold any bytes, and gives the exit status.
type Applet = fn(&[OsString]) -> u8;

const APPLETS: &[(&str, Applet)] = &[("mount", mount::run), ("umount", umount::run), ("modprobe", modprobe::run)];

/// Runs the program called `name`; `None` when there is none.
pub fn run(name: &str, args: &[OsString]) -> Option<ExitCode> {
    let (_, applet) = APPLETS.iter().find(|(n, _)| *n == name)?;
    Some(ExitCode::from(applet(args)))
}
