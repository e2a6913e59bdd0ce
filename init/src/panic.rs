//! A bug in PID1: says so and restarts the machine. Going on to abort would only make the kernel panic, which may hang.

use crate::sys::{Real, RebootHow, Sys, uptime};
use bootwright_contract::console::{Event, Line};
use std::fs::OpenOptions;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::thread;
use std::time::Duration;

/// How long the message can be read.
const PAUSE: Duration = Duration::from_secs(10);

/// The panic hook. It takes no lock: the thread that panics may hold it.
pub fn report(info: &PanicHookInfo) {
    let reason = format!("bug in PID1: {info}").replace('\n', " ");
    let line = Line { uptime_s: uptime().as_secs_f64(), event: Event::Fatal { phase: "panic".into(), reason } };
    for device in ["/dev/console", "/dev/kmsg"] {
        // There is nobody left to tell that a device cannot be written.
        let _ = OpenOptions::new().write(true).open(device).and_then(|mut d| writeln!(d, "{line}"));
    }
    thread::sleep(PAUSE);
    Real.sync();
    Real.reboot(RebootHow::Restart);
}
