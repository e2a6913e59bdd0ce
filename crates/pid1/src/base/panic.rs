//! A bug in PID1: says so and restarts the machine. Ending would only make the kernel panic, which may hang.
//!
//! PID1 is built so that a panic is an instruction which the processor refuses (`pid1.toml`): a panic and a wild pointer
//! both come here as a signal. The thread that it hits may hold any lock, so the handler only makes system calls.

use bootwright_base::sys::uptime;
use bootwright_contract::console::PREFIX;
use nix::libc;
use std::ffi::{CStr, c_int, c_void};
use std::fmt::{self, Write};

/// What a bug ends in, and the signals' names.
const SIGNALS: [(c_int, &str); 4] =
    [(libc::SIGILL, "SIGILL"), (libc::SIGSEGV, "SIGSEGV"), (libc::SIGBUS, "SIGBUS"), (libc::SIGABRT, "SIGABRT")];

/// How long the message can be read.
const PAUSE_S: u32 = if cfg!(test) { 0 } else { 10 };

/// How long the restart may take before the machine is reset.
const RESTART_S: u32 = 10;

/// From here on a bug is reported. std has given this thread a stack for signals, and gives one to all that it starts:
/// the handlers work when a stack has overflowed.
pub fn watch() {
    // SAFETY: a valid struct sigaction each, and a handler of the type that SA_SIGINFO asks for. It cannot fail for
    // these signals.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        for (signal, _) in SIGNALS {
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

extern "C" fn handle(signal: c_int, _info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: system calls only, on valid strings; the kernel gives a valid context.
    unsafe {
        if libc::getpid() != 1 {
            // A child on its way to exec: what it did, it does again, and ends.
            libc::signal(signal, libc::SIG_DFL);
            return;
        }
        let at = (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RIP as usize] as usize;
        let message = Message::new(uptime().as_millis() as u64, signal, at.wrapping_sub(program_start()));
        for device in [c"/dev/console", c"/dev/kmsg"] {
            write_to(device, &message.bytes[..message.length]);
        }
        // Both in a child: a disk whose server is gone may hold them for ever.
        in_child(|| libc::sync());
        libc::sleep(PAUSE_S);
        in_child(|| {
            libc::reboot(libc::RB_AUTOBOOT);
        });
        loop {
            libc::sleep(RESTART_S);
            // Resets at once (sysrq.rst).
            write_to(c"/proc/sysrq-trigger", b"b");
        }
    }
}

/// Where the program was loaded: addresses in its file count from here.
fn program_start() -> usize {
    unsafe extern "C" {
        /// The ELF header; the linker makes the symbol.
        static __ehdr_start: u8;
    }
    &raw const __ehdr_start as usize
}

/// Nobody is left to tell that it cannot be written, and a stopped terminal must not hold up what follows.
unsafe fn write_to(path: &CStr, text: &[u8]) {
    // SAFETY: the path ends in NUL, and the text is as long as it says.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK);
        libc::write(file, text.as_ptr().cast(), text.len());
    }
}

/// Does it in a process of its own, or here if there can be none. libc's fork would take locks.
unsafe fn in_child(work: impl Fn()) {
    // SAFETY: the child makes system calls and ends.
    unsafe {
        let child = libc::syscall(libc::SYS_fork);
        if child <= 0 {
            work();
        }
        if child == 0 {
            libc::_exit(0);
        }
    }
}

/// A console line in memory that is there already.
struct Message {
    bytes: [u8; 128],
    length: usize,
}

impl Message {
    /// The text of `Event::Fatal`, without allocating.
    fn new(uptime_ms: u64, signal: c_int, at: usize) -> Message {
        let mut message = Message { bytes: [0; 128], length: 0 };
        let name = SIGNALS.iter().find(|(number, _)| *number == signal).map_or("", |(_, name)| name);
        let (seconds, millis) = (uptime_ms / 1000, uptime_ms % 1000);
        // It fits: 20 digits of seconds, 16 of the address.
        let _ = writeln!(message, "{PREFIX}{seconds}.{millis:03} fatal panic: bug in PID1: {name} at {at:#x}");
        message
    }
}

impl Write for Message {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let room = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_contract::console::{Event, Line, parse_line};
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, clone};
    use nix::sys::signal::Signal;
    use nix::sys::wait::{WaitStatus, waitpid};
    use std::path::Path;

    #[test]
    fn the_message_is_a_line_of_the_console() {
        for (millis, signal, at, uptime_s, end) in [
            (1_042, libc::SIGILL, 0x3f21, 1.042, "SIGILL at 0x3f21"),
            (u64::MAX, libc::SIGABRT, usize::MAX, 18446744073709551.615, "SIGABRT at 0xffffffffffffffff"),
        ] {
            let message = Message::new(millis, signal, at);
            let text = std::str::from_utf8(&message.bytes[..message.length]).expect("ASCII");
            let event = Event::Fatal { phase: "panic".into(), reason: ["bug in PID1: ", end].concat() };
            assert_eq!(parse_line(text), Some(Line { uptime_s, event }), "{text}");
            assert!(text.ends_with('\n'));
        }
    }

    /// Runs `bug` as process 1 of a namespace whose console is `console`; gives how it ended.
    fn run_as_pid1(console: &Path, bug: fn()) -> Option<WaitStatus> {
        let mut stack = vec![0; 1 << 16];
        let body = Box::new(|| {
            let nothing: Option<&str> = None;
            let private = mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing);
            let dev = private.and_then(|()| mount(Some("dev"), "/dev", Some("tmpfs"), MsFlags::empty(), nothing));
            if dev.is_err() || std::os::unix::fs::symlink(console, "/dev/console").is_err() {
                return 99;
            }
            watch();
            bug();
            98
        });
        let flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
        // SAFETY: the child is this thread alone, on a stack of its own, and holds no lock.
        match unsafe { clone(body, &mut stack, flags, Some(libc::SIGCHLD)) } {
            Ok(child) => Some(waitpid(child, None).expect("our child")),
            Err(errno) => {
                assert!(std::env::var_os("CI").is_none(), "a process namespace is needed in CI: {errno}");
                eprintln!("skipped: no process namespace: {errno}");
                None
            }
        }
    }

    #[test]
    fn a_bug_is_shown_and_restarts_the_machine() {
        let bugs: [(fn(), &str); 3] = [
            // SAFETY: the test's child is meant to end of it.
            (|| unsafe { std::arch::asm!("ud2") }, "SIGILL"),
            // SAFETY: as above.
            (|| unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) }, "SIGSEGV"),
            (|| std::process::abort(), "SIGABRT"),
        ];
        let console = std::env::temp_dir().join(format!("bootwright-panic-{}", std::process::id()));
        for (bug, name) in bugs {
            std::fs::write(&console, "").expect("a temporary file");
            let Some(status) = run_as_pid1(&console, bug) else { break };
            // reboot(2): what a namespace is told instead of a restart.
            assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGHUP, _)), "{name}: {status:?}");
            let text = std::fs::read_to_string(&console).expect("written");
            let Some(Line { event: Event::Fatal { phase, reason }, .. }) = parse_line(&text) else { panic!("{text}") };
            assert_eq!(phase, "panic");
            let at = reason.strip_prefix(&format!("bug in PID1: {name} at 0x")).expect(&reason);
            assert!(name == "SIGABRT" || usize::from_str_radix(at, 16).expect("hex") < 1 << 28, "{at}");
        }
        let _ = std::fs::remove_file(&console);
    }
}
