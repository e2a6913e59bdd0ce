//! What PID1 reads from the network and from the command line; the first byte says which format.
#![no_main]

use bootwright_base::cmdline::parse_cmdline;
use bootwright_contract::Network;
use bootwright_netconf::dhcp::{lease, machine, packet};
use bootwright_netconf::dhcp6::message as dhcp6;
use bootwright_netconf::dns::message as dns;
use bootwright_netconf::v6::advert;
use bootwright_netconf::{domain, plan, sntp};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| network(bytes));

/// The first byte says what the rest is.
fn network(bytes: &[u8]) {
    let Some((format, bytes)) = bytes.split_first() else { return };
    match format % 8 {
        0 => dhcp(bytes),
        1 => {
            if let Ok(answer) = dhcp6::parse_answer(bytes, 0x12_3456, b"me", 7) {
                assert!(answer.addresses.iter().all(|(_, preferred, valid)| preferred <= valid));
            }
        }
        2 => {
            if let Ok(advert) = advert::parse_advert(bytes) {
                assert!(advert.prefixes.iter().all(|prefix| prefix.length <= 128));
            }
        }
        3 => {
            let question = dns::write_question(0x1234, "root.lab", dns::RecordType::V4).expect("a good name");
            if let Some(dns::DnsAnswer::Addresses(found)) = dns::parse_answer(bytes, &question, dns::RecordType::V4) {
                assert!(found.iter().all(|ip| ip.is_ipv4()));
            }
        }
        4 => drop(sntp::parse_answer(bytes, 7, 1 << 60, 1 << 61, 1_795_000_000)),
        5 => drop(packet::unwrap_udp(bytes)),
        6 => drop(domain::parse_name_list(bytes)),
        _ => cmdline(bytes),
    }
}

/// An answer, and what a client makes of it.
fn dhcp(bytes: &[u8]) {
    let Ok(packet) = packet::parse_packet(bytes) else { return };
    if let Ok(lease) = lease::parse_lease(&packet) {
        assert!(lease::is_usable(lease.address) && lease.renew_s <= lease.rebind_s && lease.rebind_s <= lease.lease_s);
    }
    let client = machine::DhcpClient { mac: packet.mac, uuid: None, hostname: None };
    let mut machine = machine::DhcpMachine::new(client, 1, 0);
    machine.on_time(0);
    machine.on_packet(bytes, 1);
}

fn cmdline(bytes: &[u8]) {
    let config = Network::dhcp(1);
    let cmdline = parse_cmdline(&String::from_utf8_lossy(bytes));
    // No word of the command line may cost the machine its network.
    let plan = plan::plan(&config, &cmdline).expect("the config is good");
    assert!(!plan.interfaces.is_empty());
    // What cannot be read is an error; nothing else may happen.
    let _ = bootwright_roots::source::wanted(&cmdline, &[]);
}
