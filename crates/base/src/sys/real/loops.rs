//! Loop devices (linux/loop.h; Documentation/admin-guide/devices.txt, major 7).

use super::errno;
use crate::sys::{LoopDevice, SysResult};
use nix::errno::Errno;
use nix::libc;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;

const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// Between the two calls another process may take the device that was free.
const TRIES: u32 = 8;

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo64 {
    /// lo_device, lo_inode, lo_rdevice, lo_offset, lo_sizelimit.
    numbers: [u64; 5],
    /// lo_number, lo_encrypt_type, lo_encrypt_key_size.
    encryption: [u32; 3],
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// Attaches a file read-only. The device detaches itself after its last use.
pub fn attach(file: &Path) -> SysResult<LoopDevice> {
    let backing = File::open(file).map_err(errno)?;
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control").map_err(errno)?;
    let fd = u32::try_from(backing.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    for _ in 0..TRIES {
        // SAFETY: the request takes no argument; the descriptor is open.
        let number = Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) })?;
        let path = Path::new("/dev").join(format!("loop{number}"));
        let device = OpenOptions::new().read(true).open(&path).map_err(errno)?;
        let config = configuration(fd);
        // SAFETY: `config` is laid out as `struct loop_config` and lives through the call.
        match Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) }) {
            Err(Errno::EBUSY) => continue,
            Err(errno) => return Err(errno),
            Ok(_) => return Ok(LoopDevice { path, held: Some(device) }),
        }
    }
    Err(Errno::EBUSY)
}

fn configuration(fd: u32) -> LoopConfig {
    let info = LoopInfo64 {
        numbers: [0; 5],
        encryption: [0; 3],
        flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    LoopConfig { fd, block_size: 0, info, reserved: [0; 8] }
}
