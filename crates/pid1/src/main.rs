//! PID1 of a bootwright image, and under other names what runs beside it: one static binary.

mod applets;
mod boot;
mod cgroup;
mod clock;
mod config;
mod console;
mod copy;
mod ctl;
mod devices;
mod early;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod identity;
mod main_loop;
mod modules;
mod mounts;
mod net;
mod netroot;
mod panic;
mod phases;
mod power;
mod report;
mod root;
mod service;
mod spawn;
mod state;
mod switch;
mod sysctl;
mod time;
mod timeline;
mod verify;
mod watchdog;
mod zram;

use crate::boot::Machine;
use crate::console::Console;
use crate::timeline::Timeline;
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let mut args = std::env::args();
    let name = args.next().unwrap_or_default();
    let name = name.trim_start_matches('-').rsplit('/').next().unwrap_or_default();
    let args: Vec<String> = args.collect();
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

/// Boots and supervises. PID1 never ends: the kernel would panic.
fn boot_machine() -> ! {
    panic::watch();
    let blocked = main_loop::signals::block();
    let timeline = Arc::new(Timeline::new(&phases::names(), Box::new(Console::default())));
    if let Err(errno) = blocked {
        timeline.note(&["cannot block signals: ", errno.desc()].concat());
    }
    let machine = Arc::new(Machine::new(&bootwright_base::sys::Real, timeline));
    let (boot, ending) = phases::run_table(&machine);
    power::go_down(&boot, ending)
}
