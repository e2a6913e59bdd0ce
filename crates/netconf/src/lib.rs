//! Sets up a machine's network and keeps it up: links, bonds and VLANs by netlink, IPv4 by DHCP, IPv6 by router
//! advertisements and DHCPv6, names by DNS, the time by SNTP.
//!
//! Each protocol is a state machine that is given bytes and the time. [`engine::Engine`] runs them on real links and
//! reports through [`engine::EngineReport`]. The crate can be used without PID1 and needs no other program.

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]
// Data from the network must not be able to cause a panic by an index.
#![deny(clippy::indexing_slicing)]

pub mod dhcp;
pub mod dhcp6;
pub mod dns;
pub mod domain;
pub mod engine;
pub mod files;
pub mod ip_param;
mod link_param;
pub mod netlink;
pub mod plan;
pub mod setup;
pub mod sntp;
pub mod v6;

#[cfg(test)]
mod namespace_tests;
#[cfg(test)]
mod tests;
