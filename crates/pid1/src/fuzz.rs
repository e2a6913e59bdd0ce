//! What reads bytes of the network, for the fuzz targets. No part of PID1.

use crate::netroot::http::connection::Connection;
use crate::netroot::http::message;
use crate::netroot::http::pace::Pace;
use crate::netroot::nbd::handshake;
use crate::netroot::nfs::rpc::wire;
use crate::state::content::{Content, identify};
use bootwright_base::cmdline::parse_cmdline;
use bootwright_contract::Network;
use bootwright_netconf::dhcp::{lease, machine, packet};
use bootwright_netconf::dhcp6::message as dhcp6;
use bootwright_netconf::dns::message as dns;
use bootwright_netconf::v6::advert;
use bootwright_netconf::{domain, sntp};
use std::io::{self, Read, Write};
use std::rc::Rc;

/// The first byte says what the rest is.
pub fn network(bytes: &[u8]) {
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
            let question = dns::write_question(0x1234, "root.lab", dns::Kind::V4).expect("a good name");
            if let Some(dns::Answer::Addresses(found)) = dns::parse_answer(bytes, &question, dns::Kind::V4) {
                assert!(found.iter().all(|ip| ip.is_ipv4()));
            }
        }
        4 => drop(sntp::parse_answer(bytes, 7, 1 << 60, 1 << 61, 1_795_000_000)),
        5 => drop(packet::unwrap_udp(bytes)),
        6 => drop(domain::parse_name_list(bytes)),
        _ => cmdline(bytes),
    }
}

/// What an iSCSI target says, and what the kernel passes on; the first byte says which.
pub fn iscsi(bytes: &[u8]) {
    crate::netroot::iscsi::fuzz::target(bytes);
}

/// An answer, and what a client makes of it.
fn dhcp(bytes: &[u8]) {
    let Ok(packet) = packet::parse_packet(bytes) else { return };
    if let Ok(lease) = lease::parse_lease(&packet) {
        assert!(lease::is_usable(lease.address) && lease.renew_s <= lease.rebind_s && lease.rebind_s <= lease.lease_s);
    }
    let client = machine::Client { mac: packet.mac, uuid: None, hostname: None };
    let mut machine = machine::Machine::new(client, 1, 0);
    machine.on_time(0);
    machine.on_packet(bytes, 1);
}

fn cmdline(bytes: &[u8]) {
    let config = Network::dhcp(1);
    let cmdline = parse_cmdline(&String::from_utf8_lossy(bytes));
    // No word of the command line may cost the machine its network.
    let plan = bootwright_netconf::plan::plan(&config, &cmdline).expect("the config is good");
    assert!(!plan.interfaces.is_empty());
    // What cannot be read is an error; nothing else may happen.
    let _ = crate::netroot::source::wanted(&cmdline, &[]);
}

/// What the servers of roots say; the first byte says which kind of server.
pub fn root_servers(bytes: &[u8]) {
    let Some((format, bytes)) = bytes.split_first() else { return };
    match format % 7 {
        0 => nbd(bytes),
        1 => http(bytes),
        2 => drop(crate::config::read_root_manifest(bytes)),
        3 => drop(crate::netroot::source::parse_root_path(&String::from_utf8_lossy(bytes))),
        // The number of the call is what the seeds have.
        5 => drop(wire::parse_reply(bytes, 7, 4)),
        6 => {
            let empty = identify(bytes) == Content::Nothing;
            assert_eq!(empty, bytes.iter().all(|byte| *byte == 0));
        }
        _ => {
            if let Ok(head) = message::parse_head(bytes) {
                assert!(head.range.is_none_or(|(first, last, total)| first <= last && total.is_none_or(|t| last < t)));
            }
        }
    }
}

/// A server that says what it says, whatever it is asked.
struct Deaf<'a>(&'a [u8]);

impl Read for Deaf<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Deaf<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn nbd(bytes: &[u8]) {
    let mut server = Deaf(bytes);
    if let Ok(export) = handshake::negotiate(&mut server, "worker") {
        assert!(export.block_size.is_power_of_two());
        if let Ok(read) = handshake::read_at(&mut server, 0, 64) {
            assert_eq!(read.len(), 64);
        }
    }
}

fn http(bytes: &[u8]) {
    let server = io::Cursor::new(bytes.to_vec());
    let Ok((head, mut connection)) = Connection::ask(Box::new(server), "", Rc::new(Pace::new(None))) else { return };
    let mut got = 0;
    while let Ok(piece) = connection.next() {
        if piece.is_empty() {
            break;
        }
        got += piece.len() as u64;
    }
    assert!(got <= bytes.len() as u64 && (head.chunked || head.length.is_none_or(|length| got <= length)));
}
