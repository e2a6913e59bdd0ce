//! The program of a pod's sandbox, the first process of its namespaces: it keeps them until it is told to end, and takes the
//! processes of the pod whose parents are gone, where containers share them. It needs no memory of its own but a stack.

#![no_std]
#![no_main]

use core::arch::asm;

// asm/unistd_64.h
const RT_SIGPROCMASK: usize = 14;
const WAIT4: usize = 61;
const RT_SIGTIMEDWAIT: usize = 128;
const EXIT_GROUP: usize = 231;
// asm/signal.h, linux/wait.h
const SIGINT: usize = 2;
const SIGTERM: usize = 15;
const SIGCHLD: usize = 17;
const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;
/// Of a set of signals, for the kernel.
const SET_SIZE: usize = 8;

#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    let set: u64 = [SIGINT, SIGTERM, SIGCHLD].iter().fold(0, |set, signal| set | 1 << (signal - 1));
    let set: *const u64 = &raw const set;
    // A blocked signal waits for this process, although the first one of a namespace is not ended by signals (signal(7)).
    call(RT_SIGPROCMASK, [SIG_BLOCK, set as usize, 0, SET_SIZE]);
    loop {
        match call(RT_SIGTIMEDWAIT, [set as usize, 0, 0, SET_SIZE]) as usize {
            SIGINT | SIGTERM => drop(call(EXIT_GROUP, [0, 0, 0, 0])),
            // One signal may stand for several children.
            SIGCHLD => while call(WAIT4, [usize::MAX, 0, WNOHANG, 0]) > 0 {},
            _ => {}
        }
    }
}

/// A system call; an error is a negative number.
fn call(number: usize, arguments: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: the calls above read the set, which outlives them, and write nothing; the kernel changes rax, rcx and r11 alone.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") arguments[0], in("rsi") arguments[1],
            in("rdx") arguments[2], in("r10") arguments[3], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
