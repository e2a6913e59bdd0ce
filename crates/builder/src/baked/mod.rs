//! Container images that are baked in, as containerd finds them in its root: no pull, no import, no RAM.
//!
//! All images of a recipe are one read-only image file. It holds `snapshots/N/fs`, each layer once; `blobs/sha256`, the documents of
//! the images; and `seed`, what containerd's root is filled with when it is empty: two databases, and symlinks into the rest.

pub mod bolt;
mod databases;
pub mod layers;
mod runtime;
mod store;

pub use runtime::{Runtime, RuntimeError, find_runtime};
pub use store::{BakeError, Baked, BakedEntry, BakedRecord, bake};
