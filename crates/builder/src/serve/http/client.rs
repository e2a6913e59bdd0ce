//! Who a client is, as far as a server can tell: its address, and for IPv6 the network of one machine.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// An IPv4 address, or the first 64 bits of an IPv6 address: a machine gives itself as many addresses in such a network as it likes
/// (RFC 4862 section 5.5.3). Machines behind one NAT are one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client(IpAddr);

impl Client {
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(ip) => Self(IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)))),
            ip => Self(ip),
        }
    }
}

/// The clients that known nodes are: strangers never take a place of theirs.
#[derive(Debug, Clone, Default)]
pub struct KnownClients(Arc<RwLock<HashSet<Client>>>);

impl KnownClients {
    pub fn all(&self) -> RwLockReadGuard<'_, HashSet<Client>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, clients: HashSet<Client>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = clients;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_client() {
        let client = |text: &str| Client::of(text.parse().unwrap());
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:0:0:2"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"), "IPv4 over an IPv6 socket");
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
    }
}
