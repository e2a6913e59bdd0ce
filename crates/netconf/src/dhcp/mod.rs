//! A DHCPv4 client (RFC 2131): packets, the leases they carry, the state machine, and the socket under it.

pub mod lease;
pub mod machine;
pub mod options;
pub mod packet;
pub mod socket;

#[cfg(test)]
mod machine_tests;

pub use lease::Lease;
pub use machine::{DhcpAction, DhcpClient, DhcpMachine};
