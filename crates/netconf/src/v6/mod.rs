//! IPv6 router discovery (RFC 4861, RFC 4862, RFC 8106), done here instead of by the kernel: what routers say about
//! names and DHCPv6 is needed anyway, and with a root on the network nothing may be taken away that was given once.

pub mod advert;
pub mod routers;
pub mod socket;
