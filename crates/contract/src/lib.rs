//! What the builder writes into an image and PID1 reads at boot: plain types, and the reader for them. No I/O.
//!
//! The builder serialises a [`BootConfig`] to [`paths::BOOT_CONFIG`]; PID1 parses it before anything else.
//! A field that PID1 does not know is refused, so that an image is never half understood.

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

pub mod boot;
mod by_name;
pub mod console;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
pub mod hex;
pub mod json;
pub mod log_port;
pub mod manifest;
mod memory;
pub mod modalias;
pub mod mountinfo;
pub mod panic_sites;
pub mod paths;
pub mod report;
mod root;
pub mod sums;
pub mod sysctl;
mod tmpfs;

pub use boot::*;
pub use by_name::ByName;
pub use memory::{Memory, MemoryPlan};
pub use root::*;
pub use tmpfs::is_tmpfs_size;

/// Version of [`BootConfig`]; PID1 refuses another one.
pub const CONTRACT_VERSION: u32 = 1;
