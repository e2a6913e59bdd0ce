//! What all rooms of PID1 use: the console, the timeline, the watchdog, and the report of a bug in PID1.

pub mod backlog;
pub mod cgroup;
pub mod console;
pub mod contents;
pub mod network;
pub mod node;
pub mod panic;
pub mod printable;
pub mod rlimits;
pub mod shell;
pub mod timeline;
pub mod watchdog;
pub mod words;
