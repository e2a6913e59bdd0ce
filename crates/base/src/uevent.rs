//! Device events of the kernel: NETLINK_KOBJECT_UEVENT, group 1 (lib/kobject_uevent.c).

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};
use std::os::fd::{AsRawFd, OwnedFd};

/// The group to which the kernel sends its events.
const KERNEL_GROUP: u32 = 1;
/// Receive buffer in bytes. A machine with many disks sends thousands of events.
const BUFFER_BYTES: usize = 1 << 20;
/// Buffer for one event in bytes: at most 2 KiB of text (UEVENT_BUFFER_SIZE of linux/kobject.h) and a header.
const EVENT_BYTES: usize = 4096;

/// The socket. It must be opened before the first walk over the devices, so that no device is missed.
pub struct Uevents(OwnedFd);

impl Uevents {
    pub fn open() -> Result<Uevents, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkKObjectUEvent)?;
        // When this is refused, events may be lost. The next walk finds their devices.
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &BUFFER_BYTES);
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        Ok(Uevents(fd))
    }

    /// Modaliases of the devices that have appeared since the last call. `None` when events were lost.
    pub fn pending(&self) -> Option<Vec<String>> {
        let (mut found, mut buffer) = (Vec::new(), [0; EVENT_BYTES]);
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(n) => found.extend(parse_uevent(&buffer[..n])),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => return None,
                // EAGAIN: no more events.
                Err(_) => return Some(found),
            }
        }
    }

    /// Waits for the next event and gives its text to `read`; `None` when events were lost, or a signal came.
    pub fn next<T>(&self, read: impl FnOnce(&[u8]) -> Option<T>) -> Result<Option<T>, Errno> {
        let mut buffer = [0; EVENT_BYTES];
        match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(n) => Ok(read(&buffer[..n])),
            Err(Errno::ENOBUFS | Errno::EINTR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

/// What follows `key` in the text of an event: `KEY=`.
pub fn field<'a>(message: &'a [u8], key: &str) -> Option<&'a str> {
    let mut fields = message.split(|b| *b == 0);
    str::from_utf8(fields.find_map(|f| f.strip_prefix(key.as_bytes()))?).ok()
}

/// The modalias in `add@PATH\0ACTION=add\0...\0MODALIAS=...\0`; `None` for other events.
pub fn parse_uevent(message: &[u8]) -> Option<String> {
    if field(message, "ACTION=") != Some("add") {
        return None;
    }
    field(message, "MODALIAS=").map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table() {
        let cases: [(&[u8], Option<&str>); 5] = [
            (b"add@/d\0ACTION=add\0DEVPATH=/d\0MODALIAS=virtio:d1v2\0SEQNUM=7\0", Some("virtio:d1v2")),
            (b"remove@/d\0ACTION=remove\0MODALIAS=virtio:d1v2\0", None),
            (b"add@/d\0ACTION=add\0SUBSYSTEM=block\0", None),
            (b"libudev\0\xfe\xed\xca\xfe", None),
            (b"", None),
        ];
        for (message, expected) in cases {
            assert_eq!(parse_uevent(message).as_deref(), expected);
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(message in proptest::collection::vec(any::<u8>(), 0..80)) {
            parse_uevent(&message);
        }
    }
}
