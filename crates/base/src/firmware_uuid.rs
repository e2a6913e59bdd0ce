//! The UUID that the firmware gives the machine (SMBIOS type 1), and how to recognise placeholders, which many machines
//! share.

/// The machine's UUID, 16 bytes in the order of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirmwareUuid([u8; 16]);

/// Placeholders that boards and firmware kits were shipped with and that [`is_placeholder`] does not cover by a rule.
/// FreeBSD's libexec/rc/rc.d/hostid and osquery's osquery/core/system.cpp keep such lists.
const SHIPPED: &[&str] = &[
    "07090201-0103-0301-0807-060504030201",
    "10000000-0000-8000-0040-000000000000",
    "11111111-2222-3333-4444-555555555555",
    "12345678-1234-1234-1234-123456789abc",
    "12345678-1234-5678-1234-567812345678",
    "12345678-1234-5678-90ab-cddeefaabbcc",
    "890e2d14-cacd-45d1-ae66-bc80e8bfeb0f",
    "8e275844-178f-44a8-aceb-a7d7e5178c63",
    "dc698397-fa54-4cf2-82c8-b1b5307a6a7f",
    "deadbeef-dead-beef-dead-beefdeadbeef",
];
/// Dell builds UUIDs from the letters `LLED` and the service tag.
const DELL: &[u8] = b"LLED";
const BLANK_TAG: &[u8] = b"   ";

impl FirmwareUuid {
    /// Parses the text of `/sys/class/dmi/id/product_uuid`. Returns `None` for other text and for placeholders.
    pub fn parse(text: &str) -> Option<FirmwareUuid> {
        let bytes = parse_hex(text)?;
        let shipped = SHIPPED.iter().any(|known| parse_hex(known) == Some(bytes));
        (!shipped && !is_placeholder(&bytes)).then_some(FirmwareUuid(bytes))
    }

    /// The bytes in the order of the text.
    pub fn bytes(&self) -> [u8; 16] {
        self.0
    }

    /// The bytes in the order of DHCP option 97 (RFC 4578 section 2.3; SMBIOS 2.6 section 7.2.1 swaps the first three
    /// fields).
    pub fn wire(&self) -> [u8; 16] {
        swapped(self.0)
    }
}

/// Parses 32 hex digits; hyphens may stand anywhere between them.
fn parse_hex(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.trim().bytes().filter(|byte| *byte != b'-').collect();
    let mut bytes = [0; 16];
    if digits.len() != 2 * bytes.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Swaps the byte order of the first three fields.
fn swapped(mut bytes: [u8; 16]) -> [u8; 16] {
    bytes[0..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

/// Whether the bytes look like those of firmware that was never given a UUID.
fn is_placeholder(bytes: &[u8; 16]) -> bool {
    let all_the_same = bytes.iter().all(|byte| *byte == bytes[0]);
    // Counting patterns such as 03000200-0400-0500-0006-000700080009, in either byte order.
    let counts_up = |bytes: &[u8; 16]| {
        let numbers: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
        numbers.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1]))
    };
    let erased = bytes[4..].iter().all(|byte| *byte == 0xff);
    let dell_without_tag = bytes.starts_with(DELL) && bytes.ends_with(BLANK_TAG);
    all_the_same || counts_up(bytes) || counts_up(&swapped(*bytes)) || erased || dell_without_tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_have_one_and_option_97_has_it_in_its_own_order() {
        let uuid = FirmwareUuid::parse("00112233-4455-6677-8899-aabbccddeeff\n").expect("good");
        assert_eq!(uuid.bytes()[..4], [0, 0x11, 0x22, 0x33]);
        let wire = [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
        assert_eq!(uuid.wire(), wire);
        // Dell with a service tag, Supermicro with a MAC at the end, HPE with serial numbers as text, QEMU.
        for good in [
            "4c4c4544-0042-3510-8052-b4c04f4b4e31",
            "00000000-0000-0000-0000-AC1F6B123456",
            "30373237-3132-4d32-3232-343130343132",
            "564d1f9a-7c3e-5b2d-9e80-1f2c3d4e5f60",
            "0E3C1A5B-0000-4000-8000-0123456789AB",
            "5d9c1c6e-8f5e-4c7d-9e39-6c1b4f0f5a11",
        ] {
            assert!(FirmwareUuid::parse(good).is_some(), "{good}");
        }
    }

    #[test]
    fn placeholders_are_none() {
        for bad in [
            "",
            "Not Settable",
            "To be filled by O.E.M.",
            "zz112233-4455-6677-8899-aabbccddeeff",
            "+1112233-4455-6677-8899-aabbccddeeff",
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "FEFEFEFE-FEFE-FEFE-FEFE-FEFEFEFEFEFE",
            "11111111-1111-1111-1111-111111111111",
            "58585858-5858-5858-5858-585858585858",
            "1a2b3c4d-ffff-ffff-ffff-ffffffffffff",
            "03000200-0400-0500-0006-000700080009",
            "00020003-0004-0005-0006-000700080009",
            "02000100-0300-0400-0005-000600070008",
            "03020100-0504-0706-0809-0a0b0c0d0e0f",
            "00010203-0405-0607-0809-0a0b0c0d0e0f",
            "00000000-0000-0000-0000-000000000001",
            "4c4c4544-0000-2010-8020-80c04f202020",
            "4C4C4544-0020-2010-8020-A0C04F202020",
            "07090201-0103-0301-0807-060504030201",
            "12345678-1234-5678-90AB-CDDEEFAABBCC",
            "10000000-0000-8000-0040-000000000000",
            "DEADBEEF-DEAD-BEEF-DEAD-BEEFDEADBEEF",
        ] {
            assert_eq!(FirmwareUuid::parse(bad), None, "{bad}");
        }
        assert!(SHIPPED.iter().all(|known| parse_hex(known).is_some_and(|bytes| !is_placeholder(&bytes))));
    }
}
