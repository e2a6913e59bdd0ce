//! Roots that do not come with the initramfs: where they are, how they are attached, and who keeps them.
//!
//! A block root (`nbd`, `iscsi`) is a device with the root image on it; its [`Keeper`] repairs a lost connection in a
//! thread of its own for as long as the machine runs. That thread touches no file of the root: what it logs goes to the
//! console, what it says of its state to `/run/bootwright/roots.json`.

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]
// What comes from the network is no index.
#![deny(clippy::indexing_slicing)]

mod attach;
mod board;
pub mod content;
mod context;
#[cfg(test)]
mod fake;
mod fetched;
pub mod http;
pub mod iscsi;
mod keeper;
pub mod nbd;
pub mod nfs;
mod plan;
mod site;
pub mod source;
pub mod survival;
pub mod trust;

pub use attach::{attach, refuse, resolve};
pub use board::{ConnectionState, Journal, RootStatus, StatusBoard, StatusHandle};
pub use context::{Context, NetworkView, Owner};
pub use fetched::{Fetched, fetch};
pub use keeper::{Attached, Keeper, Keepers};
pub use plan::{BUILT_IN, ModuleOptions, RootPlan};
pub use site::{NetrootError, Site, await_network, site};
