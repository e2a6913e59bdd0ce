//! PID1 of a bootwright image, and the other programs of its binary.

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

mod applets;
mod base;
mod boot;
mod modules;
mod run;

use base::console::Console;
use base::timeline::Timeline;
use base::{panic, rlimits};
use boot::sequence;
use bootwright_base::{background, children, output};
use nix::libc;
use run::{ctl, main_loop, power};
use std::ffi::OsString;
use std::sync::Arc;

/// Does what the binary was started for: as process 1 boots the machine, else runs the command or applet whose name was
/// used.
pub fn start(args: impl Iterator<Item = OsString>) -> ! {
    open_streams();
    // SAFETY: no handler is set. A pipe or connection that nobody reads is an error, and no reason to end.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let status = run_named(args);
    // SAFETY: nothing is left to be done: output has no buffer, and no handler waits for the end.
    unsafe { libc::_exit(status.into()) }
}

/// Files must not be opened as standard streams: who starts this program may have closed them.
fn open_streams() {
    for stream in 0..=2 {
        // SAFETY: plain system calls. open(2) takes the lowest number that is free, which is this one.
        unsafe {
            if libc::fcntl(stream, libc::F_GETFD) < 0 {
                libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
            }
        }
    }
}

/// Returns the exit status of a command or an applet.
fn run_named(mut args: impl Iterator<Item = OsString>) -> u8 {
    let name = args.next().unwrap_or_default();
    let name = name.to_string_lossy();
    let name = name.trim_start_matches('-').rsplit('/').next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    if ctl::NAMES.contains(&name) {
        return ctl::run(name, &args);
    }
    if let Some(status) = applets::run(name, &args) {
        return status;
    }
    if nix::unistd::getpid().as_raw() != 1 {
        let pid = nix::unistd::getpid().to_string();
        output::complain(&["init: this is PID1 of a machine; it does nothing as process ", &pid]);
        return 2;
    }
    background::with_signal_stack(|| boot_machine());
    0
}

/// Boots the machine and supervises its services. Never returns, because the kernel panics when process 1 ends.
fn boot_machine() -> ! {
    panic::watch();
    let blocked = main_loop::signals::block();
    let timeline = Arc::new(Timeline::new(&boot::names(), Box::new(Console::default())));
    if let Err(errno) = blocked {
        timeline.note(&["cannot block signals: ", errno.desc()].concat());
    }
    if let Err(error) = children::reap_from_now_on() {
        timeline.note(&["nobody waits for adopted children: ", &error.to_string()].concat());
    }
    rlimits::set(&timeline);
    let (node, ending) = sequence::run_table(&bootwright_base::sys::RealSys, timeline);
    power::go_down(&node, ending)
}
