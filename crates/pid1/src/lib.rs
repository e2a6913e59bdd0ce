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
use bootwright_base::children;
use run::{ctl, main_loop, power};
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

/// Does what the binary was started for: as process 1 boots the machine and never returns, else runs the command or
/// applet whose name was used.
pub fn start(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let name = args.next().unwrap_or_default();
    let name = name.to_string_lossy();
    let name = name.trim_start_matches('-').rsplit('/').next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    if ctl::NAMES.contains(&name) {
        return ctl::run(name, &args);
    }
    if let Some(code) = applets::run(name, &args) {
        return code;
    }
    if nix::unistd::getpid().as_raw() != 1 {
        eprintln!("init: this is PID1 of a machine; it does nothing as process {}", nix::unistd::getpid());
        return ExitCode::from(2);
    }
    boot_machine()
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
