//! What runs until the machine goes down: the main loop, services, control commands, reports; and the way down.

pub mod ctl;
pub mod log_port;
pub mod main_loop;
pub mod power;
pub mod report;
pub mod service;
