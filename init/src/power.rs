//! The end: processes, file systems, then `reboot(2)`.

use crate::boot::Boot;
use crate::sys::RebootHow;

/// How the machine goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    PowerOff,
    Reboot,
    Halt,
}

impl How {
    /// The word on the console and on the control socket.
    pub fn word(self) -> &'static str {
        match self {
            How::PowerOff => "poweroff",
            How::Reboot => "reboot",
            How::Halt => "halt",
        }
    }
}

/// Takes the machine down; services have been stopped already.
pub fn go_down(boot: &Boot, how: How) -> ! {
    boot.timeline.down(how.word());
    boot.sys.sync();
    let how = match how {
        How::PowerOff => RebootHow::PowerOff,
        How::Reboot => RebootHow::Restart,
        How::Halt => RebootHow::Halt,
    };
    boot.sys.reboot(how);
    loop {
        std::thread::park();
    }
}
