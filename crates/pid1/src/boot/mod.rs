//! The boot: the table of phases, and a file for each phase.

pub mod clock;
pub mod config;
pub mod console;
pub mod devices;
pub mod early;
pub mod machine;
pub mod mounts;
pub mod network;
pub mod root;
pub mod state;
pub mod switch;
pub mod table;
pub mod time;
pub mod verify;
