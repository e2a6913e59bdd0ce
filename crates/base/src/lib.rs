//! What every part of PID1 stands on: the system calls that change the machine behind a trait, threads that nobody waits
//! for, wake-ups, short sorts, the kernel command line. It knows no phase, no service and no protocol.

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

pub mod background;
pub mod channel;
pub mod children;
pub mod cmdline;
pub mod failure;
pub mod files;
pub mod firmware_uuid;
pub mod gate;
pub mod identity;
pub mod memory;
pub mod mount_options;
pub mod mounts;
pub mod order;
pub mod spawn;
pub mod sys;
#[cfg(any(test, feature = "fake"))]
pub mod testing;
pub mod wake;

pub use failure::Failure;
