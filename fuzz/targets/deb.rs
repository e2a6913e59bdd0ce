//! A Debian package: `ar` members, compressed tars, the control file.
#![no_main]

use bootwright::cache::unpacked::Unpacker;
use bootwright::source::archive::Limits;
use bootwright::source::deb::package::read_deb;

/// Small enough that no input is slow.
const LIMITS: Limits = Limits { file_bytes: 1 << 20, total_bytes: 4 << 20, entries: 1 << 10 };

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().expect("the temporary folder is writable");
    let mut into = Unpacker::create(&dir.path().join("deb")).expect("the temporary folder is writable");
    if let Ok(control) = read_deb(bytes, "input", LIMITS, 1, &mut into) {
        assert!(!control.package.is_empty() && !control.version.is_empty());
    }
});
