//! What all rooms of PID1 stand on: system calls that change the machine behind a trait, starting and reaping
//! processes, threads, wake-ups, the kernel command line. Nothing here knows phases, services or protocols.

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
pub mod output;
pub mod spawn;
pub mod sys;
#[cfg(any(test, feature = "fake"))]
pub mod testing;
pub mod uevent;
pub mod wake;

pub use failure::Failure;
