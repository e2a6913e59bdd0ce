//! PID1 of a bootwright image, and under other names what runs beside it: one static binary.

mod applets;
mod boot;
mod cmdline;
mod ctl;
mod main_loop;
mod net;
mod phases;
mod power;
mod sys;
mod timeline;
#[cfg(all(panic = "abort", target_env = "musl"))]
mod unwind;
mod wake;

use std::process::ExitCode;

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

fn boot_machine() -> ! {
    let sys: &'static dyn sys::Sys = &sys::Real;
    let timeline = std::sync::Arc::new(timeline::Timeline::new(phases::NAMES, Box::new(std::io::stdout())));
    let cmdline = cmdline::parse_cmdline(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default());
    let config = match std::fs::read(bootwright_contract::paths::BOOT_CONFIG)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
    {
        Some(config) => config,
        None => loop {
            std::thread::park();
        },
    };
    let boot = std::sync::Arc::new(boot::Boot { config, cmdline, timeline, sys });
    let net = net::spawn(&boot);
    boot.timeline.phase_start("services");
    let how = main_loop::run(boot.clone(), net);
    power::go_down(&boot, how)
}
