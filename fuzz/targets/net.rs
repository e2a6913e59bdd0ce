//! What PID1 reads from the network and from the command line; the first byte says which format.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bootwright_pid1::fuzz::network(bytes));
