//! The event log of a measured boot, as Linux shows it in `/sys/kernel/security/tpm0/binary_bios_measurements` (TCG PC Client Platform
//! Firmware Profile 1.06, section 10.2, structures TCG_PCR_EVENT and TCG_PCR_EVENT2).

use sha2::{Digest, Sha256};

/// A bank of SHA-256 (TPM 2.0 Library, part 2, TPM_ALG_ID).
const SHA256: u16 = 0x000b;
/// Says something and extends nothing.
const NO_ACTION: u32 = 3;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub pcr: u32,
    pub kind: u32,
    pub sha256: [u8; 32],
    pub data: Vec<u8>,
}

/// The events behind the first one, which says what banks there are.
pub fn parse(mut log: &[u8]) -> Vec<Event> {
    let log = &mut log;
    take(log, 4 + 4 + 20);
    let bytes = u32_of(log);
    let spec = take(log, bytes as usize);
    assert!(spec.starts_with(b"Spec ID Event03\0"), "a log with several banks");
    let banks = u32::from_le_bytes(spec[24..28].try_into().expect("four bytes"));
    let sizes: Vec<(u16, u16)> =
        spec[28..].chunks(4).take(banks as usize).map(|b| (u16_of(&b[..2]), u16_of(&b[2..]))).collect();
    let mut events = Vec::new();
    while !log.is_empty() {
        let (pcr, kind, digests) = (u32_of(log), u32_of(log), u32_of(log));
        let mut sha256 = [0; 32];
        for _ in 0..digests {
            let bank = u16_of(take(log, 2));
            let (_, size) = sizes.iter().find(|(found, _)| *found == bank).expect("the first event names all banks");
            let digest = take(log, usize::from(*size));
            if bank == SHA256 {
                sha256.copy_from_slice(digest);
            }
        }
        let bytes = u32_of(log);
        events.push(Event { pcr, kind, sha256, data: take(log, bytes as usize).to_vec() });
    }
    events
}

/// What a PCR of the SHA-256 bank holds after these events, in hex.
pub fn replay(events: &[Event], pcr: u32) -> String {
    let extends = events.iter().filter(|event| event.pcr == pcr && event.kind != NO_ACTION);
    let end = extends.fold([0; 32], |value: [u8; 32], event| Sha256::digest([value, event.sha256].concat()).into());
    hex::encode(end)
}

fn take<'a>(log: &mut &'a [u8], bytes: usize) -> &'a [u8] {
    let (taken, rest) = log.split_at_checked(bytes).expect("the log is whole");
    *log = rest;
    taken
}

fn u32_of(log: &mut &[u8]) -> u32 {
    u32::from_le_bytes(take(log, 4).try_into().expect("four bytes"))
}

fn u16_of(bytes: &[u8]) -> u16 {
    u16::from_le_bytes(bytes.try_into().expect("two bytes"))
}
