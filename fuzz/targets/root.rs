//! What the servers of network roots say to PID1; the first byte says which kind of server.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bootwright_pid1::fuzz::root_servers(bytes));
