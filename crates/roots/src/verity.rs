//! A block device that is proven whenever it is read: dm-verity, set up by the device mapper's ioctls.
//!
//! Sources: linux/dm-ioctl.h; Documentation/admin-guide/device-mapper/verity.rst.

use super::attachment::Attachment;
use super::context::RootContext;
use super::statuses::StatusHandle;
use super::survival;
use bootwright_base::Failure;
use bootwright_base::sys::SysResult;
use bootwright_base::uevent::{Uevents, field};
use bootwright_contract::Verity;
use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{major, minor};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The kernel's index names what it needs: dm_mod, dm_bufio, reed_solomon.
pub const MODULE: (&str, &str) = ("dm_verity", "");
const CONTROL: &str = "/dev/mapper/control";
/// What a block and its hash are compared by.
const SECTORS_OF_A_BLOCK: u64 = 4096 / 512;

/// `_IOWR(0xfd, NUMBER, struct dm_ioctl)` of `DM_DEV_CREATE`, `DM_DEV_REMOVE`, `DM_DEV_SUSPEND`, `DM_TABLE_LOAD`.
const CREATE: u8 = 3;
const REMOVE: u8 = 4;
/// Without `DM_SUSPEND_FLAG` it resumes.
const RESUME: u8 = 6;
const LOAD: u8 = 9;
/// `DM_READONLY_FLAG`.
const READ_ONLY: u32 = 1;

/// Size of `struct dm_ioctl`, and of all of a [`Request`].
const HEADER: u32 = 312;
const WHOLE: u32 = HEADER + 40 + 256;
const _: () = assert!(offset_of!(Request, target) == HEADER as usize && size_of::<Request>() == WHOLE as usize);

/// `struct dm_ioctl`, and with [`LOAD`] the only target and its parameters behind it.
#[repr(C)]
struct Request {
    version: [u32; 3],
    /// Size of all of it, and where the target begins.
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid_and_data: [u8; 136],
    target: Target,
}

/// `struct dm_target_spec`.
#[repr(C)]
struct Target {
    sector_start: u64,
    length: u64,
    status: i32,
    next: u32,
    target_type: [u8; 16],
    /// Ends with a zero.
    parameters: [u8; 256],
}

/// Why a device cannot be proven.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {source}")]
struct VerityError {
    what: &'static str,
    source: Errno,
}

/// Makes a device over `below` whose blocks are compared with the tree of hashes behind them, at each read. A block that differs
/// cannot be read (EIO). Whether `verity` belongs to the data is seen at the first read, by mounting. `name`: at most 127 bytes.
///
/// A thread tells of blocks that are refused, in the state of `source`.
///
/// # Errors
/// The module cannot be loaded, or the device mapper refuses the device.
pub fn make(
    context: &RootContext,
    name: &str,
    below: &Path,
    verity: &Verity,
    source: &str,
) -> Result<PathBuf, Failure> {
    context.node.load_modules(&[MODULE])?;
    let number = fs::metadata(below)?.rdev();
    let device = [&major(number).to_string(), ":", &minor(number).to_string()].concat();
    let blocks = verity.blocks.to_string();
    let parameters =
        ["1 ", &device, " ", &device, " 4096 4096 ", &blocks, " ", &blocks, " sha256 ", &verity.root_hash, " -"]
            .concat();
    let control = Control::open(name)?;
    let ask = |what, number, flags, blocks, parameters: &str| {
        let answer = context.sys.may_change().and_then(|()| control.ask(number, flags, blocks, parameters));
        answer.map_err(|source| VerityError { what, source })
    };
    // An attempt that was given up may have left one.
    let _ = control.ask(REMOVE, 0, 0, "");
    let made = ask("make a device that is proven", CREATE, READ_ONLY, 0, "")?;
    let table = ask("say how the device is proven", LOAD, READ_ONLY, verity.blocks, &parameters);
    if let Err(error) = table.and_then(|_| ask("start the device that is proven", RESUME, 0, 0, "")) {
        let _ = control.ask(REMOVE, 0, 0, "");
        return Err(error.into());
    }
    let device = ["/dm-", &minor(made).to_string()].concat();
    if let Some(status) = StatusHandle::last_of(context.statuses, source) {
        // What `explain --block` calls the file that such a device is of.
        let file = if name.ends_with("images") { " images.img" } else { "" };
        watch(device.clone(), status, file)?;
    }
    Ok(["/dev", &device].concat().into())
}

/// What the kernel says of a device.
#[derive(Debug, PartialEq, Eq)]
enum DeviceEvent {
    /// It has refused data, or a part of the hash tree, and the number of the block.
    Refused(&'static str, u64),
    Gone,
}

/// Tells of blocks that are refused, as long as the device exists. `device`: the end of its path in sysfs.
fn watch(device: String, status: StatusHandle, file: &'static str) -> Result<(), Failure> {
    let events = Uevents::open()?;
    let work = move || {
        // The socket does not fail.
        while let Ok(found) = events.next(|message| parse_event(message, &device)) {
            match found {
                Some(DeviceEvent::Refused(what, block)) => status.refused(what, block, file),
                Some(DeviceEvent::Gone) => return,
                None => {}
            }
        }
    };
    Ok(survival::spawn("verity", work)?)
}

/// Reads an event about that device (`DM_VERITY_ENV_VAR_NAME` of drivers/md/dm-verity-target.c).
fn parse_event(message: &[u8], device: &str) -> Option<DeviceEvent> {
    if !field(message, "DEVPATH=")?.ends_with(device) {
        return None;
    }
    if field(message, "ACTION=") == Some("remove") {
        return Some(DeviceEvent::Gone);
    }
    let (kind, block) = field(message, "DM_VERITY_ERR_BLOCK_NR=")?.split_once(',')?;
    Some(DeviceEvent::Refused(if kind == "0" { "data" } else { "hash tree" }, block.parse().ok()?))
}

/// The device of that name, and what lies below it.
pub struct VerityAttachment {
    pub name: &'static str,
    /// `None` when what is below ends by itself, as a loop device does.
    pub below: Option<Box<dyn Attachment>>,
}

impl Attachment for VerityAttachment {
    fn detach(self: Box<Self>, deadline: Duration) -> Result<(), Failure> {
        // It stays while something is mounted from it, and keeps nobody from ending what is below.
        let _ = Control::open(self.name).map(|control| control.ask(REMOVE, 0, 0, ""));
        self.below.map_or(Ok(()), |below| below.detach(deadline))
    }

    fn describe(&self) -> String {
        self.below.as_ref().map_or(self.name.into(), |below| below.describe())
    }
}

/// The device mapper, to be asked about one device.
struct Control<'a> {
    file: File,
    name: &'a str,
}

impl Control<'_> {
    fn open(name: &str) -> io::Result<Control<'_>> {
        Ok(Control { file: OpenOptions::new().read(true).write(true).open(CONTROL)?, name })
    }

    /// One ioctl(2). Returns the device's number.
    fn ask(&self, number: u8, flags: u32, blocks: u64, parameters: &str) -> SysResult<u64> {
        let mut request = Request {
            version: [4, 0, 0],
            data_size: WHOLE,
            data_start: HEADER,
            target_count: u32::from(blocks > 0),
            open_count: 0,
            flags,
            event_nr: 0,
            padding: 0,
            dev: 0,
            name: text(self.name),
            uuid_and_data: [0; 136],
            target: Target {
                sector_start: 0,
                length: blocks * SECTORS_OF_A_BLOCK,
                status: 0,
                next: 0,
                target_type: text("verity"),
                parameters: text(parameters),
            },
        };
        let code = 0xc000_fd00 | HEADER << 16 | u32::from(number);
        // SAFETY: `request` is laid out as `struct dm_ioctl` with a `struct dm_target_spec` behind it, says its own size, and
        // lives through the call.
        Errno::result(unsafe { libc::ioctl(self.file.as_raw_fd(), code as _, &raw mut request) })?;
        Ok(request.dev)
    }
}

/// The text with zeros behind it, of which there is at least one.
fn text<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().take(N - 1).zip(text.bytes()).for_each(|(to, byte)| *to = byte);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_refuses_is_read() {
        let event = |action: &str, device: &str, what: &str| {
            format!(
                "{action}@/devices/virtual/block/{device}\0ACTION={action}\0DEVPATH=/devices/virtual/block/{device}\0{what}\0SEQNUM=9\0"
            )
        };
        for (device, what, expected) in [
            ("dm-1", "DM_VERITY_ERR_BLOCK_NR=0,1234", Some(DeviceEvent::Refused("data", 1234))),
            ("dm-1", "DM_VERITY_ERR_BLOCK_NR=1,7", Some(DeviceEvent::Refused("hash tree", 7))),
            ("dm-11", "DM_VERITY_ERR_BLOCK_NR=0,1234", None),
            ("dm-1", "SUBSYSTEM=block", None),
            ("dm-1", "DM_VERITY_ERR_BLOCK_NR=0,-1", None),
        ] {
            assert_eq!(parse_event(event("change", device, what).as_bytes(), "/dm-1"), expected, "{device} {what}");
        }
        let gone = |device| parse_event(event("remove", device, "SUBSYSTEM=block").as_bytes(), "/dm-1");
        assert_eq!((gone("dm-1"), gone("dm-2")), (Some(DeviceEvent::Gone), None));
    }

    #[test]
    fn texts_end_in_a_zero() {
        assert_eq!(text::<4>("ab"), *b"ab\0\0");
        assert_eq!(text::<4>("abcdef"), *b"abc\0");
    }
}
