//! The power button: input devices with KEY_POWER (include/uapi/linux/input.h, input-event-codes.h).

use nix::libc;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

const FOLDER: &str = "/dev/input";
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// Bytes of a bit map of all keys, `KEY_MAX / 8 + 1`.
const KEY_BYTES: usize = 0x2ff / 8 + 1;
/// Size of `struct input_event` with 64-bit time: 16 bytes of time, type, code, value.
const EVENT: usize = 24;

nix::ioctl_read_buf!(
    /// EVIOCGBIT(EV_KEY): the keys of a device.
    get_keys,
    b'E',
    0x20 + 1,
    u8
);

/// All power buttons, also those whose driver is loaded later.
pub struct Buttons {
    devices: Vec<(PathBuf, File)>,
    added: Option<Inotify>,
}

impl Buttons {
    /// Looks for buttons. Machines without one are normal.
    pub fn open() -> Buttons {
        // devtmpfs makes the folder together with the first device. It must exist before, so that it can be watched for
        // that device.
        let _ = fs::create_dir_all(FOLDER);
        let added = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok();
        let added = added.filter(|inotify| inotify.add_watch(FOLDER, AddWatchFlags::IN_CREATE).is_ok());
        let mut buttons = Buttons { devices: Vec::new(), added };
        buttons.scan();
        buttons
    }

    fn scan(&mut self) {
        for entry in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_event = entry.file_name().as_encoded_bytes().starts_with(b"event");
            if !is_event || self.devices.iter().any(|(known, _)| *known == path) {
                continue;
            }
            let Ok(file) = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path) else { continue };
            if has_power_key(&file) {
                self.devices.push((path, file));
            }
        }
    }

    /// Descriptors to poll.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.devices.iter().map(|(_, file)| file.as_fd()).chain(self.added.as_ref().map(|inotify| inotify.as_fd()))
    }

    /// Reads all events. Returns whether a power button was pressed.
    pub fn read(&mut self) -> bool {
        if self.added.as_ref().is_some_and(|inotify| inotify.read_events().is_ok()) {
            self.scan();
        }
        let mut pressed = false;
        self.devices.retain_mut(|(_, file)| {
            let mut buffer = [0; EVENT * 16];
            loop {
                match file.read(&mut buffer) {
                    Ok(length) if length > 0 => pressed |= buffer[..length].chunks_exact(EVENT).any(is_press),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return true,
                    // The device is gone.
                    _ => return false,
                }
            }
        });
        pressed
    }
}

fn has_power_key(file: &File) -> bool {
    let mut keys = [0; KEY_BYTES];
    // SAFETY: the kernel writes at most as many bytes as the slice has; its length is part of the request.
    let done = unsafe { get_keys(file.as_raw_fd(), &mut keys) };
    done.is_ok() && keys[usize::from(KEY_POWER / 8)] & 1 << (KEY_POWER % 8) != 0
}

/// The value is 1 for a press, 0 for a release, 2 for a repetition.
fn is_press(event: &[u8]) -> bool {
    let number = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
    number(16) == EV_KEY && number(18) == KEY_POWER && number(20) == 1 && number(22) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_press_of_the_power_key_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            [&[7u8; 16][..], &kind.to_ne_bytes(), &code.to_ne_bytes(), &value.to_ne_bytes()].concat()
        };
        assert!(is_press(&event(EV_KEY, KEY_POWER, 1)));
        for (kind, code, value) in [(EV_KEY, KEY_POWER, 0), (EV_KEY, KEY_POWER, 2), (EV_KEY, 30, 1), (0, 0, 0)] {
            assert!(!is_press(&event(kind, code, value)), "{kind} {code} {value}");
        }
    }
}
