//! Roots and volumes on servers: their sources, how they are attached, and how they are kept attached.
//!
//! A block root (`nbd`, `iscsi`) is a device with the root image on it. Its [`Attachment`] repairs a lost connection in
//! its own thread, as long as the machine runs. That thread reads no file of the root: it writes lines to the console,
//! and the state to `/run/bootwright/roots.json`.

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]
// Data from the network must not be able to cause a panic by an index.
#![deny(clippy::indexing_slicing)]

mod attach;
mod attach_context;
mod attachment;
pub mod content;
mod context;
#[cfg(test)]
mod fake;
mod fetched;
pub mod http;
pub mod iscsi;
pub mod nbd;
pub mod nfs;
mod plan;
pub mod source;
mod statuses;
pub mod survival;
pub mod trust;
pub mod verity;

pub use attach::{ModuleOptions, attach, refuse, resolve};
pub use attach_context::{AttachContext, NetrootError, attach_context, await_network};
pub use attachment::{AttachedDevice, Attachment, Attachments};
pub use context::{NetworkView, NodeControl, RootContext};
pub use fetched::{FetchedImage, fetch, fetch_images};
pub use plan::{BUILT_IN, RootPlan};
pub use statuses::{ConnectionState, Journal, RootStatus, RootStatuses, StatusHandle};
