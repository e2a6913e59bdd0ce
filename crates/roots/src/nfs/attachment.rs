//! Watches an NFS mount by asking the server for a sign of life again and again. The kernel repairs the mount, but
//! after a longer loss only when its own pause is over (up to 45 s and more). So when the server answers again, the
//! kernel is made to connect at once. (After a refused connection it still waits for 3 s: `rpc_delay` in
//! `call_connect_status` of net/sunrpc/clnt.c.) Writing the file that asks for it can block, because it waits for a
//! lock of the connection (`XPRT_LOCKED`). That is why another thread writes it, for which nobody waits.

use super::rpc::{Caller, RpcError};
use crate::attach_context::AttachContext;
use crate::attachment::Attachment;
use crate::statuses::{ConnectionState, StatusHandle};
use crate::survival;
use bootwright_base::Failure;
use bootwright_base::channel::{RecvError, Sender, channel};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Pause between two looks at the connection.
const LOOK: Duration = Duration::from_millis(250);
/// So many looks come between two questions while the server answers.
const QUIET: u32 = 8;
/// How long a busy server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections of the kernel's RPC (net/sunrpc/sysfs.c).
const SWITCHES: &str = "/sys/kernel/sunrpc/xprt-switches";

/// The handle of the thread that watches a mount.
pub struct NfsAttachment {
    server: SocketAddr,
    status: StatusHandle,
    /// Dropping it ends the thread.
    stop: Sender<()>,
}

impl NfsAttachment {
    pub fn start(attach: &AttachContext, server: SocketAddr, major: u32) -> io::Result<NfsAttachment> {
        let (stop, stopped) = channel::<()>();
        let status = attach.status.clone();
        status.set(ConnectionState::Up, "");
        let told = status.clone();
        let pause = move |time| stopped.recv_timeout(time) == Err(RecvError::Timeout);
        let (poke, poked) = channel::<()>();
        survival::spawn("nfs-connect", move || {
            while poked.recv().is_ok() {
                reconnect(Path::new(SWITCHES), server);
            }
        })?;
        survival::spawn("nfs", move || follow(server, major, &told, &poke, &pause))?;
        Ok(NfsAttachment { server, status, stop })
    }
}

impl Attachment for NfsAttachment {
    fn detach(self: Box<Self>, _deadline: Duration) -> Result<(), Failure> {
        // The kernel has ended the connection with the last unmount.
        drop(self.stop);
        self.status.set(ConnectionState::Gone, "");
        Ok(())
    }

    fn describe(&self) -> String {
        ["NFS server ", &self.server.to_string()].concat()
    }
}

/// Watches the connection until `pause` returns false. A message on `poke` makes the kernel connect.
fn follow(server: SocketAddr, major: u32, status: &StatusHandle, poke: &Sender<()>, pause: &dyn Fn(Duration) -> bool) {
    let mut caller = None;
    let mut lost: Option<Instant> = None;
    loop {
        let fresh = caller.is_none();
        match sign_of_life(&mut caller, server, major) {
            Ok(()) => {
                if lost.take().is_some() {
                    let _ = poke.send(());
                    status.set(ConnectionState::Up, "");
                }
            }
            Err(error) => {
                caller = None;
                // A server may close an idle connection without being gone. Only a failure on a fresh connection
                // counts.
                if fresh {
                    lost.get_or_insert_with(Instant::now);
                    status.set(ConnectionState::Lost, &error.to_string());
                }
            }
        }
        let go_on = match (&caller, lost) {
            // A server that stops closes its connections, which is noticed before the next question.
            (Some(caller), _) => (0..QUIET).all(|_| caller.is_closed() || pause(LOOK)),
            (None, Some(since)) => pause(survival::pause(since.elapsed())),
            (None, None) => pause(Duration::ZERO),
        };
        if !go_on {
            return;
        }
    }
}

/// Asks over the existing connection, or over a new one.
fn sign_of_life(caller: &mut Option<Caller>, server: SocketAddr, major: u32) -> Result<(), RpcError> {
    if let Some(caller) = caller {
        return caller.ask(major);
    }
    let mut fresh = Caller::connect(server, survival::CONNECT_TIMEOUT, PATIENCE)?;
    fresh.ask(major)?;
    *caller = Some(fresh);
    Ok(())
}

/// Writes the address of the kernel's connections to that server again, which makes the kernel drop them and connect at
/// once (`rpc_sysfs_xprt_dstaddr_store`).
fn reconnect(switches: &Path, server: SocketAddr) {
    let address = server.ip().to_string();
    for knob in entries(switches).iter().flat_map(|switch| entries(switch)).map(|connection| connection.join("dstaddr"))
    {
        if fs::read_to_string(&knob).is_ok_and(|text| text.trim() == address) {
            // Without this the kernel connects later by itself.
            let _ = fs::write(&knob, &address);
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_that_servers_connections_are_renewed() {
        let top = std::env::temp_dir().join(format!("bootwright-xprt-{}", std::process::id()));
        for (switch, address) in [("switch-0/xprt-1-tcp", "10.0.2.2\n"), ("switch-1/xprt-2-tcp", "10.0.2.3\n")] {
            fs::create_dir_all(top.join(switch)).unwrap();
            fs::write(top.join(switch).join("dstaddr"), address).unwrap();
        }
        reconnect(&top, "10.0.2.2:2049".parse().unwrap());
        let read = |switch: &str| fs::read_to_string(top.join(switch).join("dstaddr")).unwrap();
        assert_eq!(read("switch-0/xprt-1-tcp"), "10.0.2.2");
        assert_eq!(read("switch-1/xprt-2-tcp"), "10.0.2.3\n");
        fs::remove_dir_all(top).unwrap();
    }
}
