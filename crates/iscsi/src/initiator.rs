//! The initiator's name and session identifiers.

use super::pdu::Isid;
use super::target::{NameError, check_name};
use std::sync::atomic::{AtomicU16, Ordering};

/// Prefix of initiator names that are made here. The domain `internal` is reserved for private use since July 2024. The
/// builder makes target names with the same prefix.
const PREFIX: &str = "iqn.2024-07.internal.bootwright:";
/// Type `T` = random (RFC 7143 section 11.12.5): the other five bytes are free.
const RANDOM: u8 = 0x80;

static SESSIONS: AtomicU16 = AtomicU16::new(1);

/// The first name that is given, else one made from `machine`, which tells this machine from others (its lowest MAC
/// address).
///
/// # Errors
/// [`NameError`]
pub fn choose_name(given: &[Option<&str>], machine: &str) -> Result<String, NameError> {
    match given.iter().flatten().next() {
        Some(name) => check_name(name),
        None => {
            let kept = machine.chars().filter(char::is_ascii_alphanumeric);
            check_name(&PREFIX.chars().chain(kept).collect::<String>())
        }
    }
}

/// An identifier for the next session. It is the same at each boot, so that a target ends the session that a crashed
/// machine has left, and different for each session of one boot, so that no session ends another.
pub fn next_isid(machine: &str) -> Isid {
    isid(machine, SESSIONS.fetch_add(1, Ordering::Relaxed))
}

fn isid(machine: &str, number: u16) -> Isid {
    // FNV-1a, spread over 24 bits.
    let hash = machine.bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, _] = (hash ^ hash << 8).to_be_bytes();
    let [high, low] = number.to_be_bytes();
    [RANDOM, a, b, c, high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_given_counts() {
        let mac = "52:54:00:12:34:56";
        let made = choose_name(&[None, None], mac).unwrap();
        assert_eq!(made, "iqn.2024-07.internal.bootwright:525400123456");
        assert_eq!(choose_name(&[None, Some("IQN.2000-01.a:B"), Some("x")], mac).unwrap(), "iqn.2000-01.a:b");
        assert!(choose_name(&[Some("node7")], mac).is_err());
    }

    #[test]
    fn sessions_differ_and_boots_do_not() {
        let mac = "52:54:00:12:34:56";
        assert_eq!(isid(mac, 1), isid(mac, 1));
        assert_ne!(isid(mac, 1), isid(mac, 2));
        assert_ne!(isid(mac, 1)[..4], isid("52:54:00:12:34:57", 1)[..4]);
        assert_eq!(isid(mac, 1)[0] >> 6, 0b10);
        assert_ne!(next_isid(mac), next_isid(mac));
    }
}
