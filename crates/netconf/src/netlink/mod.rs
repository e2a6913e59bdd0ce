//! A small layer under every netlink protocol that PID1 speaks: messages, a socket, and rtnetlink on top.

pub mod address;
pub mod generic;
pub mod made;
pub mod message;
pub mod route;
pub mod socket;

pub use socket::NetlinkError;
