//! A bug in PID1: says so and restarts the machine. Ending would only make the kernel panic, which may hang.
//!
//! PID1 is built so that a panic is an instruction which the processor refuses (`pid1.toml`): a panic and a wild pointer
//! both come here as a signal. The handler says the line of a panic, from the table at the end of PID1's own file, and the
//! address and the build of anything else, for `bootwright addr2line`. The thread that it hits may hold any lock, so the
//! handler only makes system calls, on memory that is there already.

use bootwright_base::sys::uptime_ms;
use bootwright_contract::console::PREFIX;
use bootwright_contract::panic_sites::{self, Site};
use nix::libc;
use std::ffi::{CStr, c_int, c_void};
use std::fmt::{self, Arguments, Write};

/// What a bug ends in, and the signals' names.
const SIGNALS: [(c_int, &str); 4] =
    [(libc::SIGILL, "SIGILL"), (libc::SIGSEGV, "SIGSEGV"), (libc::SIGBUS, "SIGBUS"), (libc::SIGABRT, "SIGABRT")];

/// How long the message can be read.
const PAUSE_S: u32 = if cfg!(test) { 0 } else { 10 };

/// How long the restart may take before the machine is reset.
const RESTART_S: u32 = 10;

/// From here on a bug is reported. Each thread has a stack for signals: the handlers work when its own has overflowed.
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

#[expect(clippy::cast_possible_truncation, reason = "an address is as wide as a `usize`")]
extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let name = SIGNALS.iter().find(|(number, _)| *number == signal).map_or("", |(_, name)| name);
    // SAFETY: system calls only, on valid strings; the kernel gives valid information and a valid context.
    unsafe {
        if libc::getpid() != 1 {
            // A child on its way to exec: what it did, it does again, and ends.
            libc::signal(signal, libc::SIG_DFL);
            return;
        }
        if let Some(sender) = sender(&*info) {
            say(format_args!("{name} from process {sender} is ignored"));
            return;
        }
        let at = (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RIP as usize] as usize;
        let address = at.wrapping_sub(program_start());
        match own_file().and_then(|program| panic_sites::find(program, address as u64)) {
            Some(Site { file, line, message, .. }) => say(format_args!(
                "fatal panic: bug in PID1: {file}:{line}: {message} ({name} at {address:#x}, {BuildId})"
            )),
            None => say(format_args!("fatal panic: bug in PID1: {name} at {address:#x}, {BuildId}")),
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

/// The other process that sent the signal, as `kill -SEGV 1` does: the kernel's own signals have a positive `si_code`
/// (sigaction(2)), and abort(3) is PID1 itself.
fn sender(info: &libc::siginfo_t) -> Option<libc::pid_t> {
    if info.si_code > 0 {
        return None;
    }
    // SAFETY: a signal with such a code carries the sender's pid; it is 0 for one from outside our pid namespace.
    let pid = unsafe { info.si_pid() };
    (pid != 1).then_some(pid)
}

/// Writes a console line to the console and to the kernel's log.
fn say(event: Arguments<'_>) {
    let message = Message::new(uptime_ms(), event);
    for device in [c"/dev/console", c"/dev/kmsg"] {
        // SAFETY: a path that ends in NUL.
        unsafe { write_to(device, message.line()) };
    }
}

/// The file that runs. PID1 never leaves the initrd's, which is in memory.
unsafe fn own_file() -> Option<&'static [u8]> {
    // SAFETY: system calls on valid strings and structs. The mapping is as long as the file, which nobody writes: the kernel
    // refuses that for a program that runs (execve(2), ETXTBSY).
    unsafe {
        // Before /proc is there, the first one is not.
        let paths = [c"/proc/self/exe", c"/init"];
        let file =
            paths.iter().map(|path| libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC)).find(|f| *f >= 0)?;
        let size = usize::try_from(libc::lseek(file, 0, libc::SEEK_END)).ok()?;
        let start = libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ, libc::MAP_PRIVATE, file, 0);
        (start != libc::MAP_FAILED).then(|| std::slice::from_raw_parts(start.cast_const().cast(), size))
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
        let file = libc::open(
            path.as_ptr(),
            libc::O_WRONLY | libc::O_APPEND | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK,
        );
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

/// Prints as `build 0123456789abcdef...`: the note that the linker made of all that it linked (ld(1), `--build-id`).
struct BuildId;

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = build_id().unwrap_or_default();
        f.write_str("build ")?;
        id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The description of the ELF note `NT_GNU_BUILD_ID` of the program that runs (elf(5)).
#[expect(clippy::cast_possible_truncation, reason = "an address is as wide as a `usize`")]
fn build_id() -> Option<&'static [u8]> {
    let start = program_start() as *const u8;
    // SAFETY: the linker puts the ELF header and the program headers, which it counts, at the start of what is loaded.
    let headers = unsafe {
        let header = &*start.cast::<libc::Elf64_Ehdr>();
        std::slice::from_raw_parts(
            start.add(header.e_phoff as usize).cast::<libc::Elf64_Phdr>(),
            usize::from(header.e_phnum),
        )
    };
    headers.iter().filter(|header| header.p_type == libc::PT_NOTE).find_map(|header| {
        // SAFETY: a note segment is loaded whole, and a program that can lie anywhere has addresses that count from its start.
        let notes = unsafe { std::slice::from_raw_parts(start.add(header.p_vaddr as usize), header.p_memsz as usize) };
        gnu_build_id(notes)
    })
}

/// Finds the note among others: name size, description size and type, then both, each padded to 4 bytes (elf(5)).
fn gnu_build_id(mut notes: &[u8]) -> Option<&[u8]> {
    const NT_GNU_BUILD_ID: u32 = 3;
    loop {
        let (head, rest) = notes.split_first_chunk::<12>()?;
        let (name_size, rest_of_head) = head.split_first_chunk::<4>()?;
        let (size, kind) = rest_of_head.split_first_chunk::<4>()?;
        let padded = |size: u32| (size as usize).next_multiple_of(4);
        let (name_size, size) = (u32::from_le_bytes(*name_size), u32::from_le_bytes(*size));
        let (name, rest) = rest.split_at_checked(padded(name_size))?;
        if name == b"GNU\0" && kind == NT_GNU_BUILD_ID.to_le_bytes() {
            return rest.get(..size as usize);
        }
        notes = rest.get(padded(size)..)?;
    }
}

/// A console line in memory that is there already; what does not fit is cut off.
struct Message {
    bytes: [u8; 512],
    length: usize,
}

impl Message {
    /// The text of a [`Line`](bootwright_contract::console::Line), without allocating.
    fn new(uptime_ms: u64, event: Arguments<'_>) -> Message {
        let mut message = Message { bytes: [0; 512], length: 0 };
        let (seconds, millis) = (uptime_ms / 1000, uptime_ms % 1000);
        // Writing never fails: it cuts off.
        let _ = write!(message, "{PREFIX}{seconds}.{millis:03} {event}");
        if let Some(end) = message.bytes.get_mut(message.length) {
            *end = b'\n';
        }
        message
    }

    fn line(&self) -> &[u8] {
        self.bytes.get(..=self.length).unwrap_or(&self.bytes)
    }
}

impl Write for Message {
    /// Keeps one byte for the end of the line. A reason of several lines becomes one.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let room = self.bytes.len() - 1;
            if let Some(place) = self.bytes.get_mut(..room).and_then(|bytes| bytes.get_mut(self.length)) {
                *place = if byte < b' ' { b' ' } else { byte };
                self.length += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::testing::can;
    use bootwright_contract::console::{Event, Line, parse_line};
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, clone};
    use nix::sys::signal::Signal;
    use nix::sys::wait::{WaitStatus, waitpid};
    use std::path::Path;

    #[test]
    fn the_message_is_a_line_of_the_console() {
        for (millis, uptime_s) in [(1_042, 1.042), (u64::MAX, 18446744073709551.615)] {
            let message = Message::new(millis, format_args!("fatal panic: a\nb {}", "x".repeat(3)));
            let text = std::str::from_utf8(message.line()).expect("ASCII");
            let event = Event::Fatal { phase: "panic".into(), reason: "a b xxx".into() };
            assert_eq!(parse_line(text), Some(Line { uptime_s, event }), "{text}");
            assert!(text.ends_with('\n'));
        }
        let long = Message::new(1, format_args!("note {}", "y".repeat(1000)));
        assert_eq!((long.line().len(), long.line().last()), (512, Some(&b'\n')));
    }

    #[test]
    fn the_build_id_is_found_among_other_notes() {
        let note = |name: &[u8], kind: u32, description: &[u8]| {
            let mut note = Vec::new();
            for number in [name.len() as u32, description.len() as u32, kind] {
                note.extend(number.to_le_bytes());
            }
            for part in [name, description] {
                note.extend(part);
                note.resize(note.len().next_multiple_of(4), 0);
            }
            note
        };
        let other = note(b"GNU\0", 1, &[9; 6]);
        let id = note(b"GNU\0", 3, &[1, 2, 3, 4, 5]);
        assert_eq!(gnu_build_id(&[other.clone(), id.clone()].concat()), Some(&[1, 2, 3, 4, 5][..]));
        assert_eq!(gnu_build_id(&other), None);
        assert_eq!(gnu_build_id(&id[..id.len() - 8]), None, "cut off");
        assert_eq!(gnu_build_id(&note(b"GNU\0", u32::MAX, &[])), None);
        let huge = [&u32::MAX.to_le_bytes()[..], &[0; 8]].concat();
        assert_eq!(gnu_build_id(&huge), None);
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
                can(false, &format!("root for a process namespace ({errno})"));
                None
            }
        }
    }

    /// What the console of a machine says whose process 1 does `bug`, and how that ended; none where no test can make one.
    fn console_of(bug: fn()) -> Option<(Vec<Event>, WaitStatus)> {
        let console = tempfile::NamedTempFile::new().expect("a temporary file");
        let status = run_as_pid1(console.path(), bug)?;
        let text = std::fs::read_to_string(console.path()).expect("written");
        let events =
            text.lines().map(|line| parse_line(line).unwrap_or_else(|| panic!("no line of ours: {line}")).event);
        Some((events.collect(), status))
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
        for (bug, name) in bugs {
            let Some((events, status)) = console_of(bug) else { break };
            // reboot(2): what a namespace is told instead of a restart.
            assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGHUP, _)), "{name}: {status:?}");
            let [Event::Fatal { phase, reason }] = &events[..] else { panic!("{events:?}") };
            assert_eq!(phase, "panic");
            let (at, id) = reason
                .strip_prefix(&format!("bug in PID1: {name} at 0x"))
                .and_then(|rest| rest.split_once(", build "))
                .unwrap_or_else(|| panic!("{reason}"));
            assert!(name == "SIGABRT" || usize::from_str_radix(at, 16).expect("hex") < 1 << 28, "{at}");
            assert!(id.len() == 40 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        }
    }

    #[test]
    fn a_signal_that_a_process_sent_is_named_and_ignored() {
        let Some((events, status)) = console_of(|| {
            let own = nix::unistd::getpid();
            for (signal, _) in SIGNALS {
                // SAFETY: the child of a fork, which only makes system calls. libc's fork would wait for the lock of the
                // memory's allocator, which another thread of the tests may have held when this process was made.
                unsafe {
                    if libc::syscall(libc::SYS_fork) == 0 {
                        libc::kill(own.as_raw(), signal);
                        libc::_exit(0);
                    }
                    // The signal ends a wait before the child has ended: the next one would not wait for its own child.
                    while libc::wait(std::ptr::null_mut()) < 0 {}
                }
            }
        }) else {
            return;
        };
        // The body goes on after them, and ends by itself.
        assert!(matches!(status, WaitStatus::Exited(_, 98)), "{status:?}");
        let texts: Vec<&str> = events
            .iter()
            .map(|event| match event {
                Event::Note { text } => text.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        for ((_, name), text) in SIGNALS.iter().zip(&texts) {
            assert!(text.starts_with(&format!("{name} from process ")) && text.contains(" is ignored"), "{text}");
        }
        assert_eq!(texts.len(), SIGNALS.len());
    }
}
