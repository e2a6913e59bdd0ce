//! A program, library or kernel module of an image.
#![no_main]

use bootwright::elf::parse_elf;
use bootwright::kmod::parse_modinfo;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // What is wrong with an input is an error; nothing else may happen.
    let _ = parse_elf(bytes);
    let _ = parse_modinfo(bytes);
});
