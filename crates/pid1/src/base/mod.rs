//! What every room of PID1 uses: the console, the timeline, the watchdog, and what is left to say when PID1 itself fails.

pub mod backlog;
pub mod cgroup;
pub mod console;
pub mod contents;
pub mod network;
pub mod node;
pub mod panic;
pub mod shell;
pub mod timeline;
pub mod watchdog;
pub mod words;
