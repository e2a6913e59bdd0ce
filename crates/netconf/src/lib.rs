//! Sets up a machine's network and keeps it up: links, bonds and VLANs by netlink, IPv4 by DHCP, IPv6 by router
//! advertisements and DHCPv6, names by DNS, the time by SNTP.
//!
//! The protocols are state machines that are given bytes and the time. [`engine::Engine`] runs them on real links and
//! tells its owner by [`engine::EngineReport`]; it knows nothing of PID1, and needs no other program.

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]
// What comes from the network is no index.
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
