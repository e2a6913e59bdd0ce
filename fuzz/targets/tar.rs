//! An archive of a component, plain or compressed.
#![no_main]

use bootwright::cache::unpacked::Unpacker;
use bootwright::source::archive::{Limits, decompress, read_tar};

/// Small enough that no input is slow.
const LIMITS: Limits = Limits { file_bytes: 1 << 20, total_bytes: 4 << 20, entries: 1 << 10, devices: true };

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().expect("the temporary folder is writable");
    let mut into = Unpacker::create(&dir.path().join("tar")).expect("the temporary folder is writable");
    if let Ok(reader) = decompress(bytes, 1) {
        // What is wrong with an input is an error; nothing else may happen.
        let _ = read_tar(reader, "input", LIMITS, &mut into);
        assert!(into.get("").is_none() && into.get("..").is_none());
    }
});
