//! The hardware watchdog (Documentation/watchdog/watchdog-api.rst): it resets the machine when PID1 gives no sign of
//! life.
//!
//! Signs of life come from the thread that everything depends on: in the boot from the one that goes through the
//! phases, in each of its waits; then from the main loop. When that thread hangs, the signs stop. On the way down
//! another thread gives them for as long as an orderly shutdown may take.

use crate::base::timeline::Timeline;
use bootwright_base::background;
use bootwright_base::channel::{Receiver, RecvError};
use bootwright_base::sys;
use bootwright_base::sys::Millis;
use bootwright_contract::Watchdog as Config;
use nix::libc::c_int;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Pause between two attempts to open a missing device: in the boot, when its driver may come at any time, and later.
const TRY_SOON_MS: Millis = 1000;
const TRY_AGAIN_MS: Millis = 10_000;
/// Number of signs of life within the timeout of the device.
const SIGNS: u64 = 3;
/// Pause between two signs of life in a wait, and on the way down.
const STEP: Duration = Duration::from_secs(1);

nix::ioctl_readwrite!(
    /// `WDIOC_SETTIMEOUT` of linux/watchdog.h, in seconds. The driver writes back the timeout that it has set.
    set_timeout,
    b'W',
    6,
    c_int
);

/// The watchdog of this machine. Until it is configured, its methods give no signs of life.
///
/// It is global on purpose. There is one device, and every wait of the first thread has to give signs of life: also the
/// waits in the rescue shell and in `power::halt_and_explain`, which run when there is no boot config, and so no `Node`
/// that could own it.
pub static WATCHDOG: HardwareWatchdog = HardwareWatchdog(Mutex::new(None));

pub struct HardwareWatchdog(Mutex<Option<WatchdogState>>);

struct WatchdogState {
    config: Config,
    timeline: Arc<Timeline>,
    device: Option<File>,
    /// Pause between two signs of life, or between two attempts to open the device.
    every_ms: Millis,
    next: Millis,
    /// Whether trouble is to be reported, once. In the boot a missing device is no trouble, because its driver may
    /// still come.
    tells: bool,
}

impl HardwareWatchdog {
    /// Sets the configuration and opens the device if it is there. Later calls only give a sign of life.
    pub fn configure(&self, config: &Config, timeline: &Arc<Timeline>) {
        self.lock().get_or_insert_with(|| WatchdogState::new(config.clone(), timeline.clone()));
        self.tick(now());
    }

    /// From now on a missing device is reported.
    pub fn expect(&self) {
        if let Some(state) = &mut *self.lock()
            && state.device.is_none()
        {
            (state.tells, state.next) = (true, 0);
        }
    }

    /// Gives a sign of life if one is due. Opens the device before if it is not open.
    pub fn tick(&self, now: Millis) {
        if let Some(state) = &mut *self.lock() {
            state.tick(now);
        }
    }

    /// When [`HardwareWatchdog::tick`] has to be called next.
    pub fn deadline(&self) -> Option<Millis> {
        self.lock().as_ref().map(|state| state.next)
    }

    /// `thread::sleep` with signs of life.
    pub fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            self.tick(now());
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(STEP));
        }
    }

    /// [`Receiver::recv_timeout`] with signs of life.
    pub fn receive<T>(&self, wait: &Receiver<T>, limit: Duration) -> Result<T, RecvError> {
        let until = Instant::now() + limit;
        loop {
            self.tick(now());
            let left = until.saturating_duration_since(Instant::now());
            match wait.recv_timeout(left.min(STEP)) {
                Err(RecvError::Timeout) if left > STEP => {}
                received => return received,
            }
        }
    }

    /// Gives signs of life from another thread for `limit`, then no more.
    pub fn keep_alive(&'static self, limit: Duration) {
        if self.lock().is_none() {
            return;
        }
        // Without the thread the machine has to go down within one timeout.
        let _ = background::spawn_small("watchdog", 32 << 10, Box::new(move || self.sleep(limit)));
    }

    /// Stops the watchdog if the configuration says so: by its magic character and a close.
    pub fn disarm(&self) {
        let mut state = self.lock();
        let device = state.as_mut().filter(|state| state.config.disarm).and_then(|state| state.device.take());
        if let Some(mut device) = device {
            // A watchdog that cannot be stopped (`nowayout`) resets the machine if it does not switch off.
            let _ = device.write_all(b"V");
            *state = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<WatchdogState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WatchdogState {
    fn new(config: Config, timeline: Arc<Timeline>) -> WatchdogState {
        WatchdogState { config, timeline, device: None, every_ms: TRY_SOON_MS, next: 0, tells: false }
    }

    fn tick(&mut self, now: Millis) {
        if now < self.next {
            return;
        }
        if self.device.is_none() {
            self.open(now);
        }
        if let Some(device) = &mut self.device {
            // When the driver fails here, it resets the machine. Nothing else could be done about it.
            let _ = device.write_all(b"\0");
            self.next = now + self.every_ms;
        }
    }

    fn open(&mut self, now: Millis) {
        let name = &self.config.device;
        match open(&self.config) {
            Ok((device, timeout_s)) => {
                self.every_ms = (timeout_s * 1000 / SIGNS).max(1000);
                self.device = Some(device);
                let timeout = timeout_s.to_string();
                self.timeline.note(&["watchdog `", name, "` resets after ", &timeout, " s of silence"].concat());
            }
            Err(error) => {
                if std::mem::take(&mut self.tells) {
                    self.every_ms = TRY_AGAIN_MS;
                    self.timeline.note(&["no watchdog `", name, "`: ", &error.to_string(), "; trying again"].concat());
                }
                self.next = now + self.every_ms;
            }
        }
    }
}

fn now() -> Millis {
    sys::uptime_ms()
}

/// Opens the device, which starts it, and sets the timeout. Returns the timeout that the driver has set, in seconds.
fn open(config: &Config) -> io::Result<(File, u64)> {
    let device = OpenOptions::new().write(true).open(&config.device)?;
    let mut timeout = c_int::try_from(config.timeout_s).unwrap_or(c_int::MAX);
    // SAFETY: the descriptor is open and the pointer is to an int that lives until the call returns. The call fails for
    // drivers with a fixed timeout, which is at least some tens of seconds.
    let _ = unsafe { set_timeout(device.as_raw_fd(), &raw mut timeout) };
    Ok((device, u64::try_from(timeout).unwrap_or(1).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::service::tests::Lines;
    use bootwright_base::channel::channel;
    use std::path::PathBuf;

    fn place(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("bootwright-{name}-{}", std::process::id()))
    }

    fn state(path: &std::path::Path, lines: &Lines) -> WatchdogState {
        let config = Config { device: path.display().to_string(), timeout_s: 30, disarm: true };
        WatchdogState::new(config, Arc::new(Timeline::new(&[], Box::new(lines.clone()))))
    }

    /// A plain file takes the bytes; it refuses the ioctl, as a driver with a fixed timeout does.
    #[test]
    fn signs_of_life_are_written_when_due_and_the_magic_character_last() {
        let path = place("watchdog");
        std::fs::write(&path, "").unwrap();
        let mut state = state(&path, &Lines::default());
        for (now, written) in [(0, 1), (1, 1), (9_999, 1), (10_000, 2), (19_000, 2), (25_000, 3)] {
            state.tick(now);
            assert_eq!(std::fs::read(&path).unwrap(), vec![0; written], "{now}");
        }
        assert_eq!(state.next, 35_000);
        let watchdog = HardwareWatchdog(Mutex::new(Some(state)));
        watchdog.disarm();
        watchdog.tick(99_000);
        assert_eq!(std::fs::read(&path).unwrap(), b"\0\0\0V", "and no sign after it");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_device_that_comes_late_is_opened_then_and_missed_only_once_it_is_expected() {
        let (path, lines) = (place("late"), Lines::default());
        let watchdog = HardwareWatchdog(Mutex::new(Some(state(&path, &lines))));
        watchdog.tick(0);
        assert_eq!((lines.text(), watchdog.deadline()), (String::new(), Some(TRY_SOON_MS)));
        watchdog.expect();
        watchdog.tick(5);
        watchdog.tick(5 + TRY_AGAIN_MS);
        assert_eq!(lines.text().matches("no watchdog `").count(), 1, "{}", lines.text());
        std::fs::write(&path, "").unwrap();
        watchdog.tick(4 + 2 * TRY_AGAIN_MS);
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        watchdog.tick(5 + 2 * TRY_AGAIN_MS);
        assert_eq!(std::fs::read(&path).unwrap(), b"\0");
        assert!(lines.text().contains("resets after 30 s of silence"), "{}", lines.text());
        std::fs::remove_file(path).unwrap();
        let none = HardwareWatchdog(Mutex::new(None));
        none.tick(99_999);
        assert_eq!(none.deadline(), None);
    }

    #[test]
    fn a_thread_that_waits_shows_signs_and_one_that_hangs_shows_none() {
        let path = place("waits");
        std::fs::write(&path, "").unwrap();
        let mut often = state(&path, &Lines::default());
        often.config.timeout_s = 1;
        let watchdog = HardwareWatchdog(Mutex::new(Some(often)));
        // At least one a second.
        let signs = |what: &str, wait: &dyn Fn()| {
            let before = std::fs::read(&path).unwrap().len();
            wait();
            let signs = std::fs::read(&path).unwrap().len() - before;
            eprintln!("{what}: {signs} signs");
            signs
        };
        let (send, wait) = channel();
        assert!(signs("sleep", &|| watchdog.sleep(Duration::from_millis(2500))) >= 2);
        let limit = Duration::from_millis(2500);
        let timeout = || assert_eq!(watchdog.receive(&wait, limit), Err(RecvError::Timeout));
        assert!(signs("receive", &timeout) >= 2);
        assert_eq!(signs("hang", &|| thread::sleep(limit)), 0);
        send.send(7).unwrap();
        assert_eq!(watchdog.receive(&wait, Duration::from_secs(u32::MAX.into())), Ok(7));
        drop(send);
        assert_eq!(watchdog.receive(&wait, limit), Err(RecvError::Disconnected));
        std::fs::remove_file(path).unwrap();
    }
}
