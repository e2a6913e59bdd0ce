//! Links for tests of this module's parts.

use super::netlink::route::Link;

/// A link that is up and has a carrier.
pub fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.into(),
        mac: [2, 0, 0, 0, 0, index as u8],
        permanent_mac: None,
        mtu: 1500,
        min_mtu: 68,
        max_mtu: 9000,
        up: true,
        carrier: true,
        loopback: false,
        ethernet: true,
        made_by_software: false,
        has_master: false,
    }
}
