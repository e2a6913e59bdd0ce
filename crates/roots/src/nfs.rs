//! NFS roots and volumes, mounted by mount(2) without a helper (nfs(5); fs/nfs/fs_context.c of Linux).
//!
//! Before the mount, the server is asked by ONC RPC whether it answers for the version: the kernel would report a bare
//! error number after minutes. Mounts are hard: while the server is away, processes wait, and the kernel connects
//! again. The [`attachment`] reports the state of the connection, and makes the kernel connect at once when the server
//! is back.

mod attachment;
mod options;
pub mod rpc;

use super::attach_context::{AttachContext, own_address};
use super::attachment::Attachment;
use super::context::RootContext;
use super::source::Nfs;
use super::survival;
use attachment::NfsAttachment;
use bootwright_base::channel::channel;
use bootwright_base::identity;
use bootwright_base::sys::Mount;
use nix::errno::Errno;
pub use options::{MountUse, asks_for_writing};
use options::{NfsVersion, mount_data};
use rpc::{ReplyError, RpcError};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Limit for mount(2), which gives up by itself only after minutes.
const MOUNT_WAIT: Duration = Duration::from_secs(30);
/// Limit for each answer of a server.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
const UNIQUE_ID: &str = "/sys/module/nfs/parameters/nfs4_unique_id";

#[derive(Debug, thiserror::Error)]
pub enum NfsError {
    #[error("NFS server {server}: {source}")]
    Server { server: SocketAddr, source: RpcError },
    #[error("NFS option `{option}` is no version: 3, 4, 4.0, 4.1 or 4.2")]
    Version { option: String },
    #[error("there is no address of the NFS server to be tried")]
    NoAddress,
    #[error("NFS server {server} has no service for version {major} (rpcbind knows none)")]
    NoService { server: IpAddr, major: u32 },
    #[error("cannot mount `{path}` of NFS server {server} with `{data}`: {reason} ({errno})")]
    Mount { path: String, server: IpAddr, data: String, reason: &'static str, errno: Errno },
    #[error("NFS server {server} did not answer the mount of `{path}` within {limit_s} s")]
    Hangs { path: String, server: IpAddr, limit_s: u64 },
    #[error("cannot make `{}`: {source}", path.display())]
    Folder { path: PathBuf, source: Errno },
    #[error("no modules for NFS version {major}: {reason}")]
    Modules { major: u32, reason: String },
    #[error("no thread for the mount: {0}")]
    Thread(#[source] std::io::Error),
}

/// Mounts on `target`. All addresses are tried with all versions, unless the options name a version.
///
/// # Errors
/// [`NfsError`] of the last attempt.
pub fn mount(
    attach: &AttachContext,
    nfs: &Nfs,
    target: &Path,
    used: MountUse,
) -> Result<Box<dyn Attachment>, NfsError> {
    let versions = options::versions(&nfs.options).map_err(|option| NfsError::Version { option })?;
    attach.context.sys.make_dir(target).map_err(|source| NfsError::Folder { path: target.into(), source })?;
    let mut failed = None;
    for address in &attach.addresses {
        if let Some(error) = failed.replace(NfsError::NoAddress) {
            attach.status.note(&NfsError::to_string(&error));
        }
        for version in versions {
            match mount_one(attach, nfs, *address, *version, target, used) {
                Ok(attachment) => return Ok(attachment),
                Err(error) => {
                    let next = error.is_about_version();
                    failed = Some(error);
                    if !next {
                        break;
                    }
                }
            }
        }
    }
    Err(failed.unwrap_or(NfsError::NoAddress))
}

fn mount_one(
    attach: &AttachContext,
    nfs: &Nfs,
    address: IpAddr,
    version: NfsVersion,
    target: &Path,
    used: MountUse,
) -> Result<Box<dyn Attachment>, NfsError> {
    let context = attach.context;
    load_modules(context, version.major)?;
    let port = nfs.port.or_else(|| options::port(&nfs.options));
    let server = context.wait(|| find_service(address, port, version.major))?;
    let ask = || rpc::ask(server, version.major, ANSWER_WAIT);
    context.wait(ask).map_err(|source| NfsError::Server { server, source })?;
    if version.major == 4
        && let Err(errno) = context.sys.write(Path::new(UNIQUE_ID), &identity::unshared_id(Path::new("/sys")))
    {
        context.note(&["nfs4_unique_id is not set: ", errno.desc()].concat());
    }
    let path = options::export_path(&nfs.path, attach.name.as_deref(), own_address(address));
    let (flags, data) = mount_data(&nfs.options, address, port, version, used);
    let source = options::mount_source(address, &path);
    let request = NfsMount { source, target: target.into(), fstype: version.fstype(), flags, data: data.clone() };
    let limit_s = MOUNT_WAIT.as_secs();
    match context.wait(|| mount_bounded(context, request))? {
        None => Err(NfsError::Hangs { path, server: address, limit_s }),
        Some(Err(errno)) => Err(NfsError::Mount { path, server: address, data, reason: reason(errno), errno }),
        Some(Ok(())) => {
            warn_of_names(attach, target);
            Ok(Box::new(NfsAttachment::start(attach, server, version.major).map_err(NfsError::Thread)?))
        }
    }
}

/// Warns about a server that sends owners as `root@domain`: the kernel then runs `/sbin/request-key`
/// (Documentation/security/keys/request-key.rst). When a lost root is repaired, that program would have to be read from
/// the root: a deadlock.
fn warn_of_names(attach: &AttachContext, target: &Path) {
    // Makes the kernel look up the owner of the mounted folder. The outcome does not matter.
    let _ = fs::metadata(target);
    let keys = fs::read_to_string("/proc/keys").unwrap_or_default();
    if keys.lines().any(|line| line.contains(" id_resolv") && line.contains("id:")) {
        attach.status.note("the server sends names of owners: set it to numbers, or a repair can hang");
    }
}

impl NfsError {
    /// Whether another version may work.
    fn is_about_version(&self) -> bool {
        match self {
            NfsError::Server { source, .. } => {
                matches!(source, RpcError::Reply(ReplyError::Version { .. } | ReplyError::NoProgram))
            }
            NfsError::NoService { .. } => true,
            NfsError::Mount { errno, .. } => *errno == Errno::EPROTONOSUPPORT,
            _ => false,
        }
    }
}

/// Modules for the version that is tried first.
pub fn modules(nfs: &Nfs) -> Vec<(&'static str, &'static str)> {
    let versions = options::versions(&nfs.options).unwrap_or_default();
    versions.first().map_or(Vec::new(), |version| modules_of(version.major).to_vec())
}

fn modules_of(major: u32) -> [(&'static str, &'static str); 2] {
    [("nfs", ""), (if major == 3 { "nfsv3" } else { "nfsv4" }, "")]
}

fn load_modules(context: &RootContext, major: u32) -> Result<(), NfsError> {
    context
        .node
        .load_modules(&modules_of(major))
        .map_err(|error| NfsError::Modules { major, reason: error.to_string() })
}

/// Finds the address of the NFS service. Version 4 has a fixed port; for version 3 rpcbind is asked (RFC 1833), unless
/// the options name a port.
fn find_service(server: IpAddr, port: Option<u16>, major: u32) -> Result<SocketAddr, NfsError> {
    match port {
        Some(port) => Ok(SocketAddr::new(server, port)),
        None if major > 3 => Ok(SocketAddr::new(server, rpc::NFS_PORT)),
        None => {
            let rpcbind = SocketAddr::new(server, rpc::RPCBIND_PORT);
            let port = rpc::find_port(rpcbind, major, ANSWER_WAIT);
            match port.map_err(|source| NfsError::Server { server: rpcbind, source })? {
                0 => Err(NfsError::NoService { server, major }),
                port => Ok(SocketAddr::new(server, port)),
            }
        }
    }
}

/// Arguments of a mount(2) in another thread.
struct NfsMount {
    source: String,
    target: PathBuf,
    fstype: &'static str,
    flags: nix::mount::MsFlags,
    data: String,
}

/// Mounts in a thread. Returns `None` when the call has not returned within the limit; the thread is then left behind.
fn mount_bounded(context: &RootContext, request: NfsMount) -> Result<Option<Result<(), Errno>>, NfsError> {
    let (done, wait) = channel();
    let sys = context.sys.clone();
    let work = move || {
        let NfsMount { source, target, fstype, flags, data } = &request;
        let mounted = sys.mount(Mount { source: Path::new(source), target, fstype, flags: *flags, data });
        if done.send(mounted).is_err() && mounted.is_ok() {
            // The mount came too late, and would cover what was mounted meanwhile.
            let _ = sys.unmount(target, nix::mount::MntFlags::MNT_DETACH);
        }
    };
    survival::spawn("nfs-mount", work).map_err(NfsError::Thread)?;
    Ok(wait.recv_timeout(MOUNT_WAIT).ok())
}

/// What an errno of the mount means (fs/nfs/nfs4xdr.c `nfs_stat_to_errno`, fs/nfs/mount_clnt.c, fs/nfs/super.c).
fn reason(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT => "the server exports no such path",
        Errno::EACCES => "the server does not export it to this machine",
        Errno::EPERM => "the server refused it; does it want a privileged port or another security flavour?",
        Errno::EPROTONOSUPPORT => "the server does not speak this version, or forbids it for this export",
        Errno::EINVAL => "the kernel does not take these options",
        Errno::ENODEV => "the kernel has no NFS",
        Errno::ENOTDIR => "it is no folder",
        Errno::ESTALE => "the server has lost the export",
        Errno::ECONNREFUSED => "nothing listens there",
        Errno::ETIMEDOUT => "the server does not answer",
        Errno::EBUSY => "something is mounted there already",
        _ => "the server or the kernel refused it",
    }
}
