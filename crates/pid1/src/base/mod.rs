//! What every room of PID1 uses: the console, the timeline, and what is left to say when PID1 itself fails.

pub mod console;
pub mod contents;
pub mod network;
pub mod node;
pub mod panic;
pub mod timeline;
