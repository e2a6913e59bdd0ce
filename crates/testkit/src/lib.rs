//! What the tests of several packages share: images, the machines that boot them, the servers that these machines need, and
//! projects for the tool to build.
//!
//! A test takes what it needs by module (`use testkit::{image::Image, need::have};`). Nothing here is part of the product.

pub mod cluster;
pub mod console;
pub mod event_log;
pub mod folders;
pub mod ganesha;
pub mod go_program;
pub mod http;
pub mod image;
pub mod iscsi;
pub mod lab_worker;
pub mod lan;
pub mod layout;
pub mod load;
pub mod machine;
pub mod nbd;
pub mod need;
pub mod newc;
pub mod node_proxy;
pub mod programs;
pub mod project;
pub mod qmp;
pub mod registry;
pub mod running;
pub mod secure_boot;
pub mod serve;
pub mod server;
pub mod shipped;
pub mod ssh;
pub mod tgt;
pub mod tool;
pub mod tpm;
pub mod trees;
pub mod vm;
pub mod worker;
pub mod zoo;

pub use image::rescue;

/// What every machine runs in.
pub const QEMU: &str = "qemu-system-x86_64";
