//! dnsmasq's configuration (dnsmasq(8)): gives a machine iPXE by TFTP, and iPXE its script over HTTP.
//!
//! No path of this machine is in it: TFTP's root is given on the command line, or by whoever includes the file.

use super::{FOLDER, Plan};
use crate::nodes::Dhcp;

/// iPXE's own files, as Debian's package `ipxe` names them: for BIOS with the card's UNDI driver, and for UEFI.
pub const LOADERS: [&str; 2] = ["undionly.kpxe", "ipxe.efi"];

/// Where a web server has them, for firmware that loads by HTTP; `bootwright serve` does.
pub const LOADERS_FOLDER: &str = "loaders";

/// Client architectures of option 93 (RFC 4578 section 2.1, IANA's list): tag, number, whether it is UEFI.
const ARCHITECTURES: [(&str, u16); 4] = [("bios", 0), ("efi64", 7), ("efi64", 9), ("efihttp", 16)];

/// `dnsmasq.conf`; `None` when nodes.toml does not say under which address the server is reached.
pub fn config(plan: &Plan<'_>) -> Option<String> {
    let server = plan.server;
    let url = server.url.as_ref()?;
    let script = format!("{url}/{FOLDER}/boot.ipxe");
    let [bios, efi] = LOADERS;
    let mut text = String::from("# no DNS\nport=0\n");
    if let Some(interface) = &server.interface {
        text.push_str(&format!("interface={interface}\nbind-interfaces\n"));
    }
    // Option 175 is iPXE's own.
    text.push_str("dhcp-match=set:ipxe,175\n");
    for (tag, number) in ARCHITECTURES {
        text.push_str(&format!("dhcp-match=set:{tag},option:client-arch,{number}\n"));
    }
    match &server.dhcp {
        Dhcp::Proxy(network) => {
            text.push_str(&format!("dhcp-range={network},proxy\n"));
            // A client of a proxy asks for a boot service by its architecture's name.
            for (architecture, file) in [("x86PC", bios), ("BC_EFI", efi), ("X86-64_EFI", efi)] {
                text.push_str(&format!("pxe-service=tag:!ipxe,{architecture},\"bootwright\",{file}\n"));
            }
        }
        dhcp => {
            if let Dhcp::Range(range) = dhcp {
                text.push_str(&format!("dhcp-range={range}\n"));
            }
            text.push_str(&format!("dhcp-boot=tag:bios,tag:!ipxe,{bios}\ndhcp-boot=tag:efi64,tag:!ipxe,{efi}\n"));
            // UEFI HTTP boot: the firmware wants its own class back, and a whole address.
            text.push_str(&format!(
                "dhcp-option-force=tag:efihttp,60,HTTPClient\ndhcp-boot=tag:efihttp,tag:!ipxe,{url}/{LOADERS_FOLDER}/{efi}\n"
            ));
            text.push_str(&hosts(plan));
        }
    }
    text.push_str(&format!("dhcp-boot=tag:ipxe,{script}\n"));
    Some(text)
}

/// Names, and addresses where nodes have static ones: so that nobody else gets them.
fn hosts(plan: &Plan<'_>) -> String {
    let mut text = String::new();
    for entry in plan.nodes.iter().filter(|entry| !entry.node.macs.is_empty()) {
        let mut fields: Vec<String> = entry.node.macs.iter().map(ToString::to_string).collect();
        if let Some(address) = entry.node.address.filter(|address| address.ip.is_ipv4()) {
            fields.push(address.ip.to_string());
        }
        // A host's own name; the rest is the domain's.
        fields.extend(entry.node.hostname.split('.').next().map(String::from));
        text.push_str(&format!("dhcp-host={}\n", fields.join(",")));
    }
    text
}
