//! Programs that this binary runs under other names. kubelet, CNI plugins and the kernel call them.

mod modprobe;
mod mount;
mod umount;

use std::ffi::OsString;

/// A program. It takes its arguments without its name, which may hold any bytes, and returns its exit status.
type Applet = fn(&[OsString]) -> u8;

const APPLETS: &[(&str, Applet)] = &[("mount", mount::run), ("umount", umount::run), ("modprobe", modprobe::run)];

/// Runs the program `name`; `None` when there is none of that name.
pub fn run(name: &str, args: &[OsString]) -> Option<u8> {
    let (_, applet) = APPLETS.iter().find(|(n, _)| *n == name)?;
    Some(applet(args))
}
