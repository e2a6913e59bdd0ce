//! What an iSCSI target says in a login or a discovery, and what the kernel passes on; the first byte says which.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bootwright_pid1::fuzz::iscsi(bytes));
