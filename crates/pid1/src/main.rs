//! The binary. All code is in the library.
//!
//! libc calls it, not the start of std: PID1 needs nothing of that but what is here.

#![no_main]

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

/// # Safety
/// libc gives as many strings as it says.
// SAFETY: the name and signature that libc calls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let arguments = (0..usize::try_from(argc).unwrap_or_default()).map(|at| {
        // SAFETY: `at` is below the number of strings, each ends in NUL and lives as long as the process.
        let argument = unsafe { CStr::from_ptr(*argv.add(at)) };
        OsString::from(OsStr::from_bytes(argument.to_bytes()))
    });
    bootwright_init::start(arguments)
}
