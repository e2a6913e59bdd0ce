//! Holds the kernel's connections to an NFS server back while nobody listens there. A refused one makes sunrpc wait 3 s
//! (`rpc_delay` in `call_connect_status` of Linux's net/sunrpc/clnt.c), and nothing ends that wait when the server is back.
//! One that fails for want of buffers (ENOBUFS) is made again after 0.25 s. So a BPF program on the cgroup tree's root
//! fails them in that way (`BPF_CGROUP_INET4_CONNECT`, linux/bpf.h), unless the server has just answered.

use nix::errno::Errno;
use nix::libc;
use nix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// How long the kernel may connect after an answer of the server, and that once: at least one of its attempts falls into it.
const OPEN: Duration = Duration::from_millis(500);
/// While we do not reach the server, the kernel may try it for itself as often.
const NOW_AND_THEN: Duration = Duration::from_secs(60);
/// A mount of the root and those of volumes can share the kernel's connection: then they share the gate too.
static GATES: Mutex<Vec<(SocketAddr, Weak<Gate>)>> = Mutex::new(Vec::new());

/// `enum bpf_cmd`.
const MAP_CREATE: i32 = 0;
const MAP_LOOKUP_ELEM: i32 = 1;
const MAP_UPDATE_ELEM: i32 = 2;
const PROG_LOAD: i32 = 5;
const LINK_CREATE: i32 = 28;
/// `BPF_MAP_TYPE_ARRAY`, `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`, `BPF_CGROUP_INET4_CONNECT`, `BPF_CGROUP_INET6_CONNECT`.
const ARRAY: u32 = 2;
const SOCK_ADDR: u32 = 18;
const INET4_CONNECT: u32 = 10;
const INET6_CONNECT: u32 = 11;

/// The gate to one server; open for ever once it is dropped.
pub struct Gate {
    state: OwnedFd,
    /// When it was opened last.
    opened: AtomicU64,
    _link: OwnedFd,
}

/// What both sides know, in the map; both in nanoseconds of `CLOCK_MONOTONIC`.
#[repr(C)]
#[derive(Default)]
struct State {
    /// The next connection is made if it comes until then.
    open_until: u64,
    /// When one was held back last.
    held_back: u64,
}

#[repr(C)]
struct Map {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
}

#[repr(C)]
struct Element {
    map: u32,
    _pad: u32,
    key: *const u32,
    value: *mut State,
    flags: u64,
}

#[repr(C)]
struct Program {
    kind: u32,
    count: u32,
    instructions: *const u64,
    license: *const libc::c_char,
    /// Log, kernel version, flags, name, interface.
    _unused: [u32; 11],
    attach: u32,
}

#[repr(C)]
struct Link {
    program: u32,
    target: u32,
    attach: u32,
    flags: u32,
}

/// What the program's clock says.
pub fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| Duration::from(now).as_nanos() as u64)
}

impl Gate {
    /// The gate to this server, closed if nobody has it yet. `cgroups` is the root of the cgroup2 tree.
    pub fn to(server: SocketAddr, cgroups: &Path) -> Result<Arc<Gate>, Errno> {
        let mut gates = GATES.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|(_, gate)| gate.strong_count() > 0);
        let known = gates.iter().find(|(address, _)| *address == server);
        if let Some(gate) = known.and_then(|(_, gate)| gate.upgrade()) {
            return Ok(gate);
        }
        let gate = Arc::new(Self::close_to(server, cgroups)?);
        gates.push((server, Arc::downgrade(&gate)));
        Ok(gate)
    }

    fn close_to(server: SocketAddr, cgroups: &Path) -> Result<Gate, Errno> {
        let failed = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        let cgroups = File::open(cgroups).map_err(failed)?;
        let value_size = size_of::<State>() as u32;
        let state = descriptor(MAP_CREATE, &mut Map { kind: ARRAY, key_size: 4, value_size, entries: 1 })?;
        let instructions = program(server, state.as_raw_fd());
        let attach = if server.is_ipv6() { INET6_CONNECT } else { INET4_CONNECT };
        let program = descriptor(
            PROG_LOAD,
            &mut Program {
                kind: SOCK_ADDR,
                count: instructions.len() as u32,
                instructions: instructions.as_ptr(),
                license: c"Apache-2.0".as_ptr(),
                _unused: [0; 11],
                attach,
            },
        )?;
        let (program_fd, target) = (program.as_raw_fd() as u32, cgroups.as_raw_fd() as u32);
        let link = descriptor(LINK_CREATE, &mut Link { program: program_fd, target, attach, flags: 0 })?;
        Ok(Gate { state, opened: AtomicU64::new(0), _link: link })
    }

    /// Lets the kernel connect once, within [`OPEN`].
    pub fn open(&self) {
        let now = now();
        self.opened.store(now, Ordering::Relaxed);
        let (open_until, held_back) = (now + OPEN.as_nanos() as u64, self.held_back());
        // It only fails for what is no map or no element of it.
        let _ = self.element(MAP_UPDATE_ELEM, &mut State { open_until, held_back });
    }

    /// Opens it where that was long ago: a server may let the kernel in, and not us.
    pub fn open_now_and_then(&self, lost_since: u64) {
        let last = lost_since.max(self.opened.load(Ordering::Relaxed));
        if now().saturating_sub(last) > NOW_AND_THEN.as_nanos() as u64 {
            self.open();
        }
    }

    /// Whether the kernel was held back since the gate was opened last.
    pub fn is_wanted(&self) -> bool {
        self.held_back() > self.opened.load(Ordering::Relaxed)
    }

    /// When the kernel was held back last, as [`now`] counts.
    pub fn held_back(&self) -> u64 {
        let mut state = State::default();
        let _ = self.element(MAP_LOOKUP_ELEM, &mut state);
        state.held_back
    }

    fn element(&self, command: i32, state: &mut State) -> Result<(), Errno> {
        let map = self.state.as_raw_fd() as u32;
        bpf(command, &mut Element { map, _pad: 0, key: &0, value: state, flags: 0 }).map(drop)
    }
}

/// bpf(2) for a command that gives a descriptor.
fn descriptor<T>(command: i32, attributes: &mut T) -> Result<OwnedFd, Errno> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the kernel has just made it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn bpf<T>(command: i32, attributes: &mut T) -> Result<libc::c_long, Errno> {
    // SAFETY: `T` is laid out as the command's part of `union bpf_attr`, and what it points to outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    Errno::result(done)
}

/// Registers: R0 results, R1 and R2 arguments, R6 and R7 survive calls, R10 the end of the stack.
const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    code as u64 | ((to | from << 4) as u64) << 8 | (offset as u16 as u64) << 16 | (immediate as u32 as u64) << 32
}

/// Operation codes (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_32: u8 = 0x61;
const LOAD_64: u8 = 0x79;
const STORE_32: u8 = 0x62;
const STORE_64: u8 = 0x7a;
const STORE_REGISTER_64: u8 = 0x7b;
const MOVE: u8 = 0xbf;
const SET: u8 = 0xb7;
const SET_64: u8 = 0x18;
const ADD: u8 = 0x07;
const IF_ZERO: u8 = 0x15;
const IF_ABOVE: u8 = 0x2d;
const IF_NOT: u8 = 0x5d;
const IF_NOT_32: u8 = 0x56;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// Helpers (`enum bpf_func_id`).
const MAP_LOOKUP: i32 = 1;
const KTIME_GET_NS: i32 = 5;
const GET_CURRENT_COMM: i32 = 16;
const SET_RETVAL: i32 = 187;
/// `BPF_PSEUDO_MAP_FD`.
const MAP_FD: u8 = 1;
/// Offsets in `struct bpf_sock_addr`.
const USER_IP4: i16 = 4;
const USER_IP6: i16 = 8;
const USER_PORT: i16 = 24;
/// Where on the stack: the name of who connects, and the map's key.
const NAME: i16 = -16;
const KEY: i16 = -20;
/// Kernel threads that do work for others are called so. PID1 and programs may connect.
const WORKER: u64 = u64::from_ne_bytes(*b"kworker/");

/// Fails what a worker of the kernel connects to the server while the gate is closed, and notes when it wanted to.
fn program(server: SocketAddr, map: i32) -> Vec<u64> {
    let mut code = vec![instruction(MOVE, 6, 1, 0, 0)];
    let mut to_end = Vec::new();
    let mut expect = |offset, word: u32| {
        code.push(instruction(LOAD_32, 0, 6, offset, 0));
        to_end.push(code.len());
        code.push(instruction(IF_NOT_32, 0, 0, 0, word as i32));
    };
    expect(USER_PORT, server.port().to_be().into());
    match server.ip() {
        IpAddr::V4(address) => expect(USER_IP4, u32::from_ne_bytes(address.octets())),
        IpAddr::V6(address) => {
            for (offset, word) in (USER_IP6..).step_by(4).zip(address.octets().as_chunks().0) {
                expect(offset, u32::from_ne_bytes(*word));
            }
        }
    }
    let set_64 = |to, from, value: u64| {
        [instruction(SET_64, to, from, 0, value as i32), instruction(0, 0, 0, 0, (value >> 32) as i32)]
    };
    let on_stack = |to, at: i16| [instruction(MOVE, to, 10, 0, 0), instruction(ADD, to, 0, 0, at.into())];
    code.extend(on_stack(1, NAME));
    code.extend([instruction(SET, 2, 0, 0, 16), instruction(CALL, 0, 0, 0, GET_CURRENT_COMM)]);
    code.push(instruction(LOAD_64, 0, 10, NAME, 0));
    code.extend(set_64(1, 0, WORKER));
    to_end.push(code.len());
    code.push(instruction(IF_NOT, 0, 1, 0, 0));
    code.push(instruction(STORE_32, 10, 0, KEY, 0));
    code.extend(set_64(1, MAP_FD, map as u64));
    code.extend(on_stack(2, KEY));
    code.push(instruction(CALL, 0, 0, 0, MAP_LOOKUP));
    to_end.push(code.len());
    code.push(instruction(IF_ZERO, 0, 0, 0, 0));
    code.extend([instruction(MOVE, 7, 0, 0, 0), instruction(CALL, 0, 0, 0, KTIME_GET_NS)]);
    code.push(instruction(LOAD_64, 1, 7, 0, 0));
    // Once only: the server may be gone again before it is over.
    code.push(instruction(STORE_64, 7, 0, 0, 0));
    to_end.push(code.len());
    code.push(instruction(IF_ABOVE, 1, 0, 0, 0));
    code.push(instruction(STORE_REGISTER_64, 7, 0, size_of::<u64>() as i16, 0));
    code.extend([instruction(SET, 1, 0, 0, -libc::ENOBUFS), instruction(CALL, 0, 0, 0, SET_RETVAL)]);
    code.extend([instruction(SET, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    for at in to_end {
        code[at] |= ((code.len() - at - 1) as u64) << 16;
    }
    code.extend([instruction(SET, 0, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)]);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_held_back_is_let_through() {
        for (server, words) in [("10.0.2.2:2049", 2), ("[fd00::2]:2049", 5)] {
            let code = program(server.parse().unwrap(), 7);
            let end = code.len() - 2;
            assert_eq!(code[end..], [instruction(SET, 0, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)]);
            let jumps = code
                .iter()
                .enumerate()
                .filter(|(_, word)| [IF_ZERO, IF_ABOVE, IF_NOT, IF_NOT_32].contains(&(**word as u8)) && **word != 0);
            let targets: Vec<usize> = jumps.map(|(at, word)| at + 1 + (*word >> 16) as u16 as usize).collect();
            assert_eq!(targets, vec![end; words + 3], "{server}");
        }
        assert_eq!(instruction(MOVE, 6, 1, 0, 0), 0x16bf);
        assert_eq!(instruction(IF_NOT_32, 0, 0, 3, -1), 0xffff_ffff_0003_0056);
    }
}
