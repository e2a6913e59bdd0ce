//! rtnetlink(7): makes VLANs and bonds.

use super::message::MessageBuilder;
use super::route::{CREATE, FLAG_UP, LINK_BODY, NEW_LINK, Route, link_body};
use super::socket::NetlinkError;
use nix::errno::Errno;

/// `IFLA_MASTER`, `IFLA_LINK`, `IFLA_IFNAME`, `IFLA_LINKINFO` (include/uapi/linux/if_link.h).
const MASTER: u16 = 10;
const LOWER: u16 = 5;
const NAME: u16 = 3;
const LINK_INFO: u16 = 18;
/// `IFLA_INFO_KIND`, `IFLA_INFO_DATA` below it.
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
/// `IFLA_VLAN_ID` below that.
const VLAN_ID: u16 = 1;

/// The form of a bond option's value (`IFLA_BOND_*`).
enum Value {
    U8,
    U32,
    /// One byte, named by words.
    Words(&'static [(&'static str, u8)]),
}

/// Modes with name and number (Documentation/networking/bonding.rst).
const MODES: &[(&str, u8)] = &[
    ("balance-rr", 0),
    ("active-backup", 1),
    ("balance-xor", 2),
    ("broadcast", 3),
    ("802.3ad", 4),
    ("balance-tlb", 5),
    ("balance-alb", 6),
];
const HASHES: &[(&str, u8)] = &[("layer2", 0), ("layer3+4", 1), ("layer2+3", 2), ("encap2+3", 3), ("encap3+4", 4)];

/// The known options: name, attribute, form. `primary` is not among them: it is set when that link joins.
const OPTIONS: &[(&str, u16, Value)] = &[
    ("mode", 1, Value::Words(MODES)),
    ("miimon", 3, Value::U32),
    ("updelay", 4, Value::U32),
    ("downdelay", 5, Value::U32),
    ("fail_over_mac", 13, Value::Words(&[("none", 0), ("active", 1), ("follow", 2)])),
    ("xmit_hash_policy", 14, Value::Words(HASHES)),
    ("min_links", 18, Value::U32),
    ("lacp_rate", 21, Value::Words(&[("slow", 0), ("fast", 1)])),
    ("ad_select", 22, Value::Words(&[("stable", 0), ("bandwidth", 1), ("count", 2)])),
    ("num_grat_arp", 15, Value::U8),
];

/// A bond option that is not known, or has a value that is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a bond has no option `{0}`, or not with this value")]
pub struct BondOptionError(pub String);

/// The options as attributes. `mode` comes first, because the kernel checks other options against it.
pub fn bond_attributes(options: &[(String, String)]) -> Result<Vec<u8>, BondOptionError> {
    let mut bytes = Vec::new();
    for (name, number, form) in OPTIONS {
        for (_, value) in options.iter().filter(|(key, _)| key == name) {
            let bad = || BondOptionError([*name, "=", value].concat());
            let word = |value: &str| value.parse::<u32>().map_err(|_| bad());
            let value = match form {
                Value::U32 => word(value)?.to_ne_bytes().to_vec(),
                Value::U8 => vec![u8::try_from(word(value)?).map_err(|_| bad())?],
                Value::Words(words) => {
                    let known = words.iter().find(|(text, number)| text == value || number.to_string() == *value);
                    vec![known.ok_or_else(bad)?.1]
                }
            };
            push_attribute(&mut bytes, *number, &value);
        }
    }
    let unknown = options.iter().find(|(key, _)| !OPTIONS.iter().any(|(name, ..)| name == key));
    match unknown {
        Some((key, value)) => Err(BondOptionError([key, "=", value].concat())),
        None => Ok(bytes),
    }
}

fn push_attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend_from_slice(&u16::try_from(4 + value.len()).unwrap_or(u16::MAX).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn link_info(kind: &str, data: &[u8]) -> Vec<u8> {
    let mut info = Vec::new();
    push_attribute(&mut info, INFO_KIND, kind.as_bytes());
    push_attribute(&mut info, INFO_DATA, data);
    info
}

impl Route {
    /// Makes VLAN `id` on the link `lower`.
    pub fn make_vlan(&mut self, name: &str, lower: u32, id: u16) -> Result<(), NetlinkError> {
        let mut data = Vec::new();
        push_attribute(&mut data, VLAN_ID, &id.to_ne_bytes());
        let builder = MessageBuilder::new(NEW_LINK, CREATE, &[0; LINK_BODY])
            .attribute(NAME, &[name.as_bytes(), &[0]].concat())
            .attribute(LOWER, &lower.to_ne_bytes())
            .attribute(LINK_INFO, &link_info("vlan", &data));
        made(self.socket.request("make the VLAN", builder))
    }

    /// Makes a bond; `attributes` are from [`bond_attributes`].
    pub fn make_bond(&mut self, name: &str, attributes: &[u8]) -> Result<(), NetlinkError> {
        let builder = MessageBuilder::new(NEW_LINK, CREATE, &[0; LINK_BODY])
            .attribute(NAME, &[name.as_bytes(), &[0]].concat())
            .attribute(LINK_INFO, &link_info("bond", attributes));
        made(self.socket.request("make the bond", builder))
    }

    /// Puts a link into a bond. The kernel demands that the link is down before, and sets it up itself.
    pub fn join(&mut self, index: u32, bond: u32) -> Result<(), NetlinkError> {
        self.socket.request("set the link down", MessageBuilder::new(NEW_LINK, 0, &link_body(index, 0, FLAG_UP)))?;
        let builder = MessageBuilder::new(NEW_LINK, 0, &link_body(index, 0, 0)).attribute(MASTER, &bond.to_ne_bytes());
        self.socket.request("put the link into the bond", builder)
    }

    /// Renames a link, which is down afterwards.
    pub fn rename(&mut self, index: u32, name: &str) -> Result<(), NetlinkError> {
        let builder = MessageBuilder::new(NEW_LINK, 0, &link_body(index, 0, FLAG_UP));
        self.socket.request("set the link down", builder)?;
        let builder = MessageBuilder::new(NEW_LINK, 0, &link_body(index, 0, 0))
            .attribute(NAME, &[name.as_bytes(), &[0]].concat());
        self.socket.request("rename the link", builder)
    }
}

/// Takes a link that exists already for success.
fn made(outcome: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match outcome {
        Err(NetlinkError::Refused { errno: Errno::EEXIST, .. }) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Vec<(String, String)> {
        let pair = |part: &str| part.split_once('=').map(|(k, v)| (k.to_string(), v.to_string())).expect("a pair");
        text.split(',').map(pair).collect()
    }

    #[test]
    fn the_contract_names_what_is_known() {
        let options: Vec<&str> = OPTIONS.iter().map(|(name, ..)| *name).filter(|name| *name != "mode").collect();
        assert!(options.iter().all(|name| bootwright_contract::BOND_OPTIONS.contains(name)));
        assert_eq!(options.len(), bootwright_contract::BOND_OPTIONS.len());
        let modes: Vec<&str> = MODES.iter().map(|(name, _)| *name).collect();
        assert_eq!(modes, bootwright_contract::BOND_MODES);
    }

    #[test]
    fn bond_options_as_the_kernel_reads_them() {
        let bytes = bond_attributes(&options("miimon=100,mode=802.3ad,lacp_rate=1")).expect("good");
        let mut expected = Vec::new();
        push_attribute(&mut expected, 1, &[4]);
        push_attribute(&mut expected, 3, &100u32.to_ne_bytes());
        push_attribute(&mut expected, 21, &[1]);
        assert_eq!(bytes, expected);
        for bad in ["mode=fast", "mode=7", "miimon=x", "num_grat_arp=300", "color=red"] {
            assert_eq!(bond_attributes(&options(bad)), Err(BondOptionError(bad.into())));
        }
    }
}
