//! The kernel command line as iPXE hands it over and the EFI stub measures it.

use super::STUB;
use crate::entry::Sha256;
use crate::nodes::Mac;
use serde::{Deserialize, Serialize};

/// What iPXE writes for the address of the card that a machine booted from.
const MAC: &str = "netX/mac:hexhyp";

/// The load options of the kernel when iPXE starts it by an image's own `boot.ipxe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandLine {
    pub pcr: u32,
    /// As it stands in `boot.ipxe`. iPXE puts the value of a variable in the place of `${name}`, and nothing for one that is not set; the
    /// blanks around it stay.
    pub text: String,
}

impl CommandLine {
    pub fn of_ipxe(text: String) -> Self {
        Self { pcr: STUB, text }
    }

    /// Whether it has that variable.
    pub fn has(&self, variable: &str) -> bool {
        self.text.contains(&format!("${{{variable}}}"))
    }

    /// That of the machine that boots from this card, with these variables set.
    pub fn of_machine(&self, mac: Mac, variables: &[(String, String)]) -> String {
        let (mut line, mut rest) = (String::new(), self.text.as_str());
        while let Some((before, (name, after))) = rest.split_once("${").and_then(|(b, r)| Some((b, r.split_once('}')?)))
        {
            line += before;
            match variables.iter().find(|(known, _)| known == name) {
                _ if name == MAC => line += &mac.hyphens(),
                Some((_, value)) => line += value,
                None => {}
            }
            rest = after;
        }
        line + rest
    }
}

/// The hash of load options: UTF-16, little-endian, with a NUL at the end (efi_convert_cmdline(), drivers/firmware/efi/libstub).
pub fn load_options_sha256(text: &str) -> Sha256 {
    let units = text.encode_utf16().chain([0]);
    Sha256::of(&units.flat_map(u16::to_le_bytes).collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn variables_that_are_not_set_leave_their_blanks() {
        let text = "vmlinuz initrd=initrd.img ${bw-initrd} BOOTIF=01-${netX/mac:hexhyp} quiet ${bw-root} ${bw-args}";
        let line = CommandLine::of_ipxe(text.into());
        let mac = crate::nodes::parse_mac("52:54:00:AB:00:10").unwrap();
        let set = [("bw-args".to_string(), "a ${b}".to_string())];
        let card = "BOOTIF=01-52-54-00-ab-00-10";
        assert_eq!(line.of_machine(mac, &set), format!("vmlinuz initrd=initrd.img  {card} quiet  a ${{b}}"));
        assert_eq!(line.of_machine(mac, &[]), format!("vmlinuz initrd=initrd.img  {card} quiet  "));
        assert!(line.has("bw-root") && !line.has("bw-roo"));
    }

    /// The command that docs/measurements.md names.
    #[test]
    fn the_hash_is_that_of_the_command_in_the_documents() {
        let text = "vmlinuz  grüße 🐧";
        let hashed = Command::new("sh")
            .args(["-c", "printf '%s\\0' \"$0\" | iconv -f UTF-8 -t UTF-16LE | sha256sum", text])
            .output()
            .expect("coreutils and libc-bin are part of every Debian");
        let hashed = String::from_utf8(hashed.stdout).unwrap();
        assert_eq!(hashed.split(' ').next().unwrap(), load_options_sha256(text).to_string());
    }
}
