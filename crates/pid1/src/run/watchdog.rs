//! The hardware watchdog (Documentation/watchdog/watchdog-api.rst): it resets the machine when PID1 shows no sign of life.
//!
//! The main loop shows it, and nothing else while the machine runs: a main loop that hangs is what it is there for. On
//! the way down a thread does, for as long as an orderly end may take; after that the watchdog is the last resort.

use crate::base::node::Node;
use crate::base::timeline::Timeline;
use crate::run::service::Millis;
use bootwright_base::background;
use bootwright_contract::Watchdog as Config;
use nix::libc::c_int;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Between two attempts to open a device that is not there (yet).
const TRY_AGAIN_MS: Millis = 10_000;
/// Signs of life in one timeout.
const SIGNS: u64 = 3;
/// Between two signs of life on the way down.
const STEP: Duration = Duration::from_secs(1);

nix::ioctl_readwrite!(
    /// `WDIOC_SETTIMEOUT` of linux/watchdog.h: seconds; the driver writes back what it took.
    set_timeout,
    b'W',
    6,
    c_int
);

/// The watchdog of this machine; without a configuration it does nothing.
#[derive(Default)]
pub struct Watchdog(Mutex<State>);

#[derive(Default)]
struct State {
    device: Option<File>,
    /// Between two signs of life.
    every_ms: Millis,
    next: Millis,
    /// Trouble was told once.
    told: bool,
}

impl Watchdog {
    /// Shows a sign of life when it is due; opens the device first.
    pub fn tick(&self, config: Option<&Config>, timeline: &Timeline, now: Millis) {
        let Some(config) = config else { return };
        let mut state = self.lock();
        if now < state.next {
            return;
        }
        if state.device.is_none() {
            state.open(config, timeline, now);
        }
        state.sign(now);
    }

    /// When [`Watchdog::tick`] wants to be called at the latest.
    pub fn deadline(&self, config: Option<&Config>) -> Option<Millis> {
        config.map(|_| self.lock().next)
    }

    /// Stops the watchdog: its magic character, then the close.
    pub fn disarm(&self) {
        if let Some(mut device) = self.lock().device.take() {
            // One that cannot be stopped (`nowayout`) resets a machine that did not switch off.
            let _ = device.write_all(b"V");
        }
    }

    fn sign(&self) {
        self.lock().sign(0);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn open(&mut self, config: &Config, timeline: &Timeline, now: Millis) {
        match open(config) {
            Ok((device, timeout_s)) => {
                self.every_ms = (timeout_s * 1000 / SIGNS).max(1000);
                self.device = Some(device);
                let timeout = timeout_s.to_string();
                timeline.note(&["watchdog `", &config.device, "` resets after ", &timeout, " s of silence"].concat());
            }
            Err(error) => {
                self.next = now + TRY_AGAIN_MS;
                if !std::mem::replace(&mut self.told, true) {
                    let reason = error.to_string();
                    timeline.note(&["no watchdog `", &config.device, "`: ", &reason, "; trying again"].concat());
                }
            }
        }
    }

    fn sign(&mut self, now: Millis) {
        if let Some(device) = &mut self.device {
            // A driver that fails here will reset the machine, which is all that could be done about it.
            let _ = device.write_all(b"\0");
            self.next = now + self.every_ms;
        }
    }
}

/// Opens the device, which starts it, and sets the timeout; gives the one that the driver took, in seconds.
fn open(config: &Config) -> io::Result<(File, u64)> {
    let device = OpenOptions::new().write(true).open(&config.device)?;
    let mut timeout = c_int::try_from(config.timeout_s).unwrap_or(c_int::MAX);
    // SAFETY: the descriptor is open and the pointer is to an int that lives until the call returns.
    // A driver with one fixed timeout refuses; that is at least some tens of seconds.
    let _ = unsafe { set_timeout(device.as_raw_fd(), &raw mut timeout) };
    Ok((device, u64::try_from(timeout).unwrap_or(1).max(1)))
}

/// Shows signs of life for as long as the way down may take, then no more.
pub fn keep_alive(boot: &Arc<Node>, limit: Duration) {
    if boot.config.watchdog.is_none() {
        return;
    }
    let boot = boot.clone();
    let until = Instant::now() + limit;
    let work = move || {
        while Instant::now() < until {
            boot.watchdog.sign();
            thread::sleep(STEP);
        }
    };
    // Without the thread the machine has one timeout left to go down in.
    let _ = background::spawn_small("watchdog", 32 << 10, Box::new(work));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline() -> Timeline {
        Timeline::new(&[], Box::new(io::sink()))
    }

    /// A plain file takes the bytes; it refuses the ioctl, as a driver with a fixed timeout does.
    #[test]
    fn signs_of_life_are_written_when_due_and_the_magic_character_last() {
        let path = std::env::temp_dir().join(format!("bootwright-watchdog-{}", std::process::id()));
        std::fs::write(&path, "").unwrap();
        let config = Config { device: path.display().to_string(), timeout_s: 30, disarm: true };
        let (watchdog, timeline) = (Watchdog::default(), timeline());
        for (now, written) in [(0, 1), (1, 1), (9_999, 1), (10_000, 2), (19_000, 2), (25_000, 3)] {
            watchdog.tick(Some(&config), &timeline, now);
            assert_eq!(std::fs::read(&path).unwrap(), vec![0; written], "{now}");
        }
        assert_eq!(watchdog.deadline(Some(&config)), Some(35_000));
        watchdog.disarm();
        assert_eq!(std::fs::read(&path).unwrap(), b"\0\0\0V");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_device_that_comes_late_is_opened_then() {
        let path = std::env::temp_dir().join(format!("bootwright-late-{}", std::process::id()));
        let config = Config { device: path.display().to_string(), timeout_s: 30, disarm: true };
        let (watchdog, timeline) = (Watchdog::default(), timeline());
        watchdog.tick(Some(&config), &timeline, 0);
        std::fs::write(&path, "").unwrap();
        watchdog.tick(Some(&config), &timeline, TRY_AGAIN_MS - 1);
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        watchdog.tick(Some(&config), &timeline, TRY_AGAIN_MS);
        assert_eq!(std::fs::read(&path).unwrap(), b"\0");
        std::fs::remove_file(path).unwrap();
        watchdog.tick(None, &timeline, 99_999);
        assert_eq!(watchdog.deadline(None), None);
    }
}
