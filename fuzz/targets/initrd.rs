//! A foreign initrd: archives one after another, plain or compressed.
#![no_main]

use bootwright::inspect::initrd::read_initrd;
use bootwright::inspect::newc::InitrdLimits;

/// Small enough that no input is slow.
const LIMITS: InitrdLimits = InitrdLimits { entries: 1 << 10, unpacked: 4 << 20 };

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let segments = read_initrd(bytes, LIMITS).expect("bytes in memory can be read");
    let size = bytes.len() as u64;
    assert!(segments.iter().all(|s| s.offset.checked_add(s.packed).is_some_and(|end| end <= size)));
});
