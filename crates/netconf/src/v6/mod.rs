//! IPv6 router discovery (RFC 4861, RFC 4862, RFC 8106). The engine does it in place of the kernel, because it needs
//! what routers say about name servers and DHCPv6, and because addresses must stay while the root is on the network.

pub mod advert;
pub mod routers;
pub mod socket;
