//! Netlink: messages, a socket, and the protocols rtnetlink and generic netlink on top of them.

pub mod address;
pub mod generic;
pub mod message;
pub mod route;
pub mod socket;
pub mod virtual_link;

pub use socket::NetlinkError;
