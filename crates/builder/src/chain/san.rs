//! An iSCSI root as iPXE connects to it (<https://ipxe.org/sanuri>, RFC 4173 section 5) and as PID1 then finds it in the iBFT.

use percent_encoding::percent_decode_str;
use std::fmt::Write;

/// The lines of a script for `iscsi://[USER[:SECRET]@]HOST[:PORT]/TARGET[/LUN][?initiator=NAME&user_in=USER&secret_in=SECRET]`, in which a
/// byte may be written as `%20`. `None` without a target: iPXE cannot look for one.
pub fn san(root: &str) -> Option<String> {
    let (place, query) = root.split_once('?').unwrap_or((root, ""));
    let (authority, path) = place.strip_prefix("iscsi://")?.split_once('/')?;
    let (account, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (host, port) = match host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) => (host, port),
        None => (host, ""),
    };
    let host = if host.is_empty() { "${next-server}" } else { host };
    let (target, lun) = path.split_once('/').unwrap_or((path, ""));
    if target.is_empty() {
        return None;
    }
    // Ours is a decimal number, theirs hexadecimal digits.
    let lun = lun.parse::<u16>().map_or(String::new(), |lun| format!("{lun:x}"));
    let mut text =
        format!("set bw-san iscsi:{host}::{port}:{lun}:{}\n", percent_decode_str(target).decode_utf8_lossy());
    let option = |key: &str| query.split('&').find_map(|word| word.strip_prefix(key)?.strip_prefix('=')).unwrap_or("");
    let (user, secret) = account.split_once(':').unwrap_or((account, ""));
    for (setting, value) in [
        ("initiator-iqn", option("initiator")),
        ("username", user),
        ("password", secret),
        ("reverse-username", option("user_in")),
        ("reverse-password", option("secret_in")),
    ] {
        if !value.is_empty() {
            text.push_str(&set(setting, &percent_decode_str(value).collect::<Vec<u8>>()));
        }
    }
    Some(text)
}

/// The command that sets it; in hexadecimal digits where iPXE would read the text as something else.
fn set(setting: &str, value: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._:@/+=".contains(b);
    if value.iter().all(plain) {
        return format!("set {setting} {}\n", String::from_utf8_lossy(value));
    }
    let mut digits = String::new();
    for byte in value {
        let colon = if digits.is_empty() { "" } else { ":" };
        write!(digits, "{colon}{byte:02x}").expect("a string takes all");
    }
    format!("set {setting}:hex {digits}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn san_addresses() {
        let line = |address: &str| Some(format!("set bw-san {address}\n"));
        for (root, expected) in [
            ("iscsi://192.0.2.1/iqn.2026-11.lab:worker", line("iscsi:192.0.2.1::::iqn.2026-11.lab:worker")),
            ("iscsi:///iqn.x?portal=192.0.2.2", line("iscsi:${next-server}::::iqn.x")),
            ("iscsi://[2001:db8::1]/iqn.x/10", line("iscsi:[2001:db8::1]:::a:iqn.x")),
            ("iscsi://192.0.2.1/", None),
            ("nbd:///x", None),
            (
                "iscsi://u:s@192.0.2.1:3261/iqn.x/2",
                Some("set bw-san iscsi:192.0.2.1::3261:2:iqn.x\nset username u\nset password s\n".into()),
            ),
        ] {
            assert_eq!(san(root), expected, "{root}");
        }
    }

    #[test]
    fn names_and_secrets() {
        let root = "iscsi://n%20n:%24%7Bx%7D@192.0.2.1/iqn.x?initiator=iqn.y:z&user_in=t&secret_in=100%";
        let expected = "set bw-san iscsi:192.0.2.1::::iqn.x\nset initiator-iqn iqn.y:z\nset username:hex 6e:20:6e\n\
                        set password:hex 24:7b:78:7d\nset reverse-username t\nset reverse-password:hex 31:30:30:25\n";
        assert_eq!(san(root).unwrap(), expected);
    }
}
