//! No stack traces and no unwinding. PID1 aborts on a panic and its image is stripped, so a trace could name nothing;
//! yet std's default panic hook brings a DWARF reader, a demangler, an inflater and libunwind: a third of the binary.
//! They are reached only through the functions below; defining those here lets link-time optimisation drop the rest.
//! Names and meaning: Itanium C++ ABI, "Exception Handling", level I.

use nix::libc::{abort, c_int};
use std::ffi::c_void;

/// `_URC_END_OF_STACK`: there are no frames.
const END_OF_STACK: c_int = 5;

/// Reports an empty stack to std's backtrace printer.
// SAFETY: name and signature are libunwind's; libunwind itself is then not linked, so the name is there once.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_trace: extern "C" fn(*mut c_void, *mut c_void) -> c_int, _arg: *mut c_void) -> c_int {
    END_OF_STACK
}

/// Functions that only an unwinding or a trace would call, of which this binary has neither.
macro_rules! never_called {
    ($($name:ident)*) => {$(
        // SAFETY: as above; nothing calls it, so that its signature does not matter.
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> ! {
            // SAFETY: abort(3) has no preconditions.
            unsafe { abort() }
        }
    )*};
}

never_called! {
    _Unwind_RaiseException _Unwind_Resume _Unwind_DeleteException
    _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart _Unwind_GetTextRelBase _Unwind_GetDataRelBase
    _Unwind_GetIP _Unwind_GetIPInfo _Unwind_GetCFA _Unwind_FindEnclosingFunction _Unwind_SetGR _Unwind_SetIP
}
