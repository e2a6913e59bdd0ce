//! A panic of the PID1 that goes into images says its file, line and message on the console.

use bootwright::pid1::lines;
use bootwright::pid1::load_pid1;
use bootwright_contract::panic_sites::{self, Site};
use goblin::elf::Elf;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, clone};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};
use testkit::need::can;

/// The two shapes, with and without network roots.
fn shapes() -> [Vec<u8>; 2] {
    [true, false].map(|network_roots| {
        let pid1 = load_pid1(None, network_roots).expect("the tests are built with PID1");
        pid1.body.read_start(u64::MAX).expect("it is in memory")
    })
}

fn sites(program: &[u8]) -> Vec<Site<'_>> {
    let elf = Elf::parse(program).expect("an ELF file");
    let named = |name| elf.section_headers.iter().find(|s| elf.shdr_strtab.get_at(s.sh_name) == Some(name));
    let text = named(".text").expect("a program has code");
    let code = &program[text.file_range().expect("it lies in the file")];
    let places = code.windows(2).enumerate().filter(|(_, bytes)| *bytes == [0x0f, 0x0b]);
    places.filter_map(|(offset, _)| panic_sites::find(program, text.sh_addr + offset as u64)).collect()
}

/// Each of our own files is in the table, and what the table says of an address `addr2line` says too.
#[test]
fn the_table_has_the_lines_that_addr2line_has() {
    for program in shapes() {
        let sites = sites(&program);
        let ours: Vec<&Site<'_>> = sites.iter().filter(|site| site.file.starts_with("crates/")).collect();
        for room in ["base", "contract", "netconf", "pid1"] {
            assert!(ours.iter().any(|site| site.file.starts_with(&format!("crates/{room}/src/"))), "{room}");
        }
        assert!(ours.iter().any(|site| site.message == "index out of bounds"), "{ours:?}");
        let build = build_id(&program).parse().expect("an id");
        let debug = lines::find(&build, Path::new("/nowhere")).expect("its lines are in the tool");
        for site in ours {
            let frames = debug.frames(site.address).expect("they can be read");
            let is_there = |frame: &lines::Frame| {
                frame.file.as_deref() == Some(site.file) && frame.line.map(u64::from) == Some(site.line)
            };
            assert!(frames.iter().any(is_there), "{site:?}: {frames:?}");
        }
    }
}

fn build_id(program: &[u8]) -> String {
    let elf = Elf::parse(program).expect("an ELF file");
    let mut notes = elf.iter_note_headers(program).expect("it has notes").map(|note| note.expect("a note"));
    hex::encode(notes.find(|note| note.name == "GNU" && note.n_type == 3).expect("the linker's note").desc)
}

#[test]
fn a_panic_says_file_line_and_message_on_the_console() {
    for program in shapes() {
        let sites = sites(&program);
        let site = sites
            .iter()
            .find(|site| site.file.starts_with("crates/pid1/") && site.message == "index out of bounds")
            .expect("PID1 has one");
        let Some(console) = console_after(&program, site.address) else { return };
        let expected =
            format!(" fatal panic: bug in PID1: {}:{}: index out of bounds (SIGILL at ", site.file, site.line);
        assert!(console.contains(&expected), "{console}");
        assert!(console.trim_end().ends_with(&format!("build {})", build_id(&program))), "{console}");
    }
}

/// What the console says when PID1 goes on at `address` after it has begun to watch for bugs. None where no test can do so.
fn console_after(program: &[u8], address: u64) -> Option<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (init, console) = (folder.path().join("init"), folder.path().join("console"));
    std::fs::write(&init, program).expect("it can be written");
    std::fs::set_permissions(&init, std::fs::Permissions::from_mode(0o755)).expect("ours");
    std::fs::write(&console, "").expect("it can be written");
    let mut stack = vec![0; 1 << 16];
    let path = CString::new(init.as_os_str().as_bytes()).expect("no NUL");
    // The child may allocate no memory: another thread may hold the allocator's lock while it is made.
    let argv = [path.as_ptr(), std::ptr::null()];
    let body = Box::new(|| {
        let nothing: Option<&str> = None;
        let alone = mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
            .and_then(|()| mount(Some("dev"), "/dev", Some("tmpfs"), MsFlags::empty(), nothing));
        if alone.is_ok() && symlink(&console, "/dev/console").is_ok() && ptrace::traceme().is_ok() {
            // SAFETY: strings that end in NUL, and a list that ends in NULL.
            unsafe { nix::libc::execv(argv[0], argv.as_ptr()) };
        }
        99
    });
    let flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    // SAFETY: the child has a stack of its own, and ends or becomes another program.
    let child = match unsafe { clone(body, &mut stack, flags, Some(nix::libc::SIGCHLD)) } {
        Ok(child) => child,
        Err(errno) => {
            can(false, &format!("root for a process namespace ({errno})"));
            return None;
        }
    };
    let _ended = Ended(child);
    assert!(matches!(waitpid(child, None), Ok(WaitStatus::Stopped(_, Signal::SIGTRAP))), "it did not become PID1");
    run_until_it_watches(child);
    let mut registers = ptrace::getregs(child).expect("it is stopped");
    registers.rip = start_of(child, &init) + address;
    ptrace::setregs(child, registers).expect("it is stopped");
    ptrace::detach(child, None).expect("it is stopped");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let said = std::fs::read_to_string(&console).expect("text");
        if said.ends_with('\n') || Instant::now() > deadline {
            return Some(said);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Goes on until the last handler of PID1's stands, that of SIGABRT. musl holds off all signals meanwhile.
fn run_until_it_watches(child: Pid) {
    let mut stands = false;
    for _ in 0..200 {
        ptrace::syscall(child, None).expect("it is stopped");
        assert!(
            matches!(waitpid(child, None), Ok(WaitStatus::Stopped(_, Signal::SIGTRAP))),
            "it ended before it watched"
        );
        let registers = ptrace::getregs(child).expect("it is stopped");
        let is_entered = registers.rax.cast_signed() == -i64::from(nix::libc::ENOSYS);
        let is = |call: i64| registers.orig_rax == call.cast_unsigned();
        if is_entered {
            continue;
        }
        if stands && is(nix::libc::SYS_rt_sigprocmask) {
            return;
        }
        stands |= is(nix::libc::SYS_rt_sigaction) && registers.rdi == u64::from(nix::libc::SIGABRT.cast_unsigned());
    }
    panic!("PID1 does not watch for bugs at its start");
}

/// Where it was loaded (proc_pid_maps(5)).
fn start_of(child: Pid, init: &Path) -> u64 {
    let maps = std::fs::read_to_string(format!("/proc/{child}/maps")).expect("it is there");
    let line = maps.lines().find(|line| line.ends_with(&*init.to_string_lossy())).expect("its program is mapped");
    u64::from_str_radix(line.split('-').next().unwrap_or_default(), 16).expect("a hex number")
}

/// Ends the child with the test.
struct Ended(Pid);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}
