//! An iSCSI initiator (RFC 7143) for disks: discovery, login with CHAP, and a session of the kernel's iscsi_tcp through
//! NETLINK_ISCSI, without other programs. The caller decides when a lost session logs in again.
//!
//! What a target sends is parsed by pure functions. [`login`] and [`discovery`] work over any connection that can be
//! read and written.

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]
// Data from the network must not be able to cause a panic by an index.
#![deny(clippy::indexing_slicing)]

pub mod chap;
pub mod discovery;
pub mod disk;
pub mod ibft;
pub mod initiator;
pub mod kernel;
pub mod login;
pub mod message;
pub mod negotiate;
pub mod pdu;
pub mod session;
pub mod target;
pub mod text;
pub mod transport;

/// The port of iSCSI (IANA; RFC 7143 section 4.2.3).
pub const PORT: u16 = 3260;
