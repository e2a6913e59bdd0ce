//! An iSCSI initiator (RFC 7143) as far as a disk needs one: discovery, login with CHAP, and a session of the kernel's
//! iscsi_tcp by NETLINK_ISCSI, with no other program. Who uses it decides when to log in again.
//!
//! What a target sends is read by pure functions; [`login`] and [`discovery`] speak over anything that can be read and
//! written.

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]
// What comes from the network is no index.
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

/// The port that IANA gave to iSCSI (RFC 7143 section 4.2.3).
pub const PORT: u16 = 3260;
