//! A root or volume from an NBD server. The handshake is made here; the kernel reads and writes.
//!
//! When the connection breaks, the kernel keeps all requests. The thread `nbd` connects again, checks that the server
//! exports the same content, and hands the connection to the kernel, which sends the requests again.

mod attachment;
mod control;
pub mod handshake;
#[cfg(test)]
mod tests;

use super::attach_context::AttachContext;
use super::attachment::AttachedDevice;
use super::source::{Nbd, Source};
use super::statuses::ConnectionState;
use super::survival;
use attachment::NbdAttachment;
use bootwright_base::Failure;
use bootwright_netconf::netlink::NetlinkError;
use bootwright_netconf::netlink::generic::GenericError;
use control::{NbdControl, NbdDevice};
use handshake::{Export, HandshakeError, READ_ONLY};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The kernel makes each device when it is asked for it, without partitions.
pub const MODULES: &[(&str, &str)] = &[("nbd", "nbds_max=0 max_part=0")];
/// Timeout of requests until one takes longer. Netlink takes only whole seconds, so it is written to sysfs, and only
/// while no request is under way: since Linux 6.11 the kernel stops the device for this file until all requests are
/// answered.
const FIRST_TIMEOUT_MS: &str = "500";
/// Limit for each message of the handshake.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// So many bytes at the start of the export, a file system's superblock, identify its content.
const MARK_BYTES: u32 = 4096;
/// Block sizes that the driver accepts: a sector to a page.
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 512..=4096;

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub enum NbdError {
    #[error("cannot reach the nbd server {address}: {cause}")]
    Connect { address: SocketAddr, cause: io::Error },
    #[error("nbd export `{export}` on {address}: {cause}")]
    Handshake { export: String, address: SocketAddr, cause: HandshakeError },
    #[error("nbd export `{export}` on {address} cannot be written")]
    ReadOnly { export: String, address: SocketAddr },
    #[error("nbd export `{export}` on {address} wants blocks of {found} bytes; the kernel has at most {}", BLOCK_SIZES.end())]
    BlockSize { export: String, address: SocketAddr, found: u32 },
    #[error("nbd export `{export}` on {address} has changed: {what}")]
    Changed { export: String, address: SocketAddr, what: String },
    #[error(transparent)]
    Generic(#[from] GenericError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("no recovery thread: {0}")]
    Thread(#[source] io::Error),
}

/// The address of an export, and how it is used.
struct ExportAddress {
    addresses: Vec<IpAddr>,
    port: u16,
    export: String,
    read_only: bool,
}

/// A connection that is ready for requests.
struct NbdConnection {
    stream: TcpStream,
    address: SocketAddr,
    export: Export,
    /// The first bytes of the export, if nobody writes to it.
    mark: Option<Vec<u8>>,
}

/// Attaches the export as a block device. [`MODULES`] must be loaded. `read_only`: it holds a root image.
///
/// # Errors
/// [`NbdError`]
pub fn attach(source: &Nbd, attach: AttachContext, read_only: bool) -> Result<AttachedDevice, Failure> {
    let (addresses, export) = (attach.addresses, source.export.clone());
    let place = ExportAddress { addresses, port: source.port, export, read_only };
    let mut control = NbdControl::open(true).map_err(NbdError::Generic)?;
    let connection = attach.context.wait(|| place.connect(ANSWER_TIMEOUT))?;
    let index = control.connect(&connection.device()).map_err(NbdError::Netlink)?;
    let name = ["nbd", &index.to_string()].concat();
    let timeout = ["/sys/block/", &name, "/queue/io_timeout"].concat();
    if let Err(errno) = attach.context.sys.write(Path::new(&timeout), FIRST_TIMEOUT_MS) {
        attach.status.note(&[&timeout[..], ": ", errno.desc()].concat());
    }
    attach.status.set(ConnectionState::Up, &[&name[..], ", ", &connection.address.to_string()].concat());
    let device = PathBuf::from(["/dev/", &name].concat());
    let describe = [&Source::Nbd(source.clone()).to_string()[..], " as /dev/", &name].concat();
    let attachment = NbdAttachment::start(control, index, place, connection, attach.status, describe);
    Ok(AttachedDevice { device, attachment: Box::new(attachment.map_err(NbdError::Thread)?) })
}

impl ExportAddress {
    /// Connects to the first address that has the export. `patience` limits each message of the handshake.
    ///
    /// # Errors
    /// The error of the last address.
    fn connect(&self, patience: Duration) -> Result<NbdConnection, NbdError> {
        let mut outcome = None;
        for address in &self.addresses {
            match self.connect_to(SocketAddr::new(*address, self.port), patience) {
                Ok(connection) => return Ok(connection),
                Err(error) => outcome = Some(error),
            }
        }
        let nowhere = || NbdError::Connect {
            address: SocketAddr::from(([0; 4], self.port)),
            cause: io::ErrorKind::AddrNotAvailable.into(),
        };
        Err(outcome.unwrap_or_else(nowhere))
    }

    fn connect_to(&self, address: SocketAddr, patience: Duration) -> Result<NbdConnection, NbdError> {
        let failed = |cause| NbdError::Connect { address, cause };
        let mut stream = TcpStream::connect_timeout(&address, survival::CONNECT_TIMEOUT).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_read_timeout(Some(patience)).map_err(failed)?;
        stream.set_write_timeout(Some(patience)).map_err(failed)?;
        let export = || self.export.clone();
        let garbled = |cause| NbdError::Handshake { export: export(), address, cause };
        let mut found = handshake::negotiate(&mut stream, &self.export).map_err(garbled)?;
        found.block_size = found.block_size.max(*BLOCK_SIZES.start());
        if !BLOCK_SIZES.contains(&found.block_size) {
            return Err(NbdError::BlockSize { export: export(), address, found: found.block_size });
        }
        let mut mark = None;
        if self.read_only {
            found.flags |= READ_ONLY;
            let length = u32::try_from(found.size).unwrap_or(u32::MAX).min(MARK_BYTES);
            mark = Some(handshake::read_at(&mut stream, 0, length).map_err(garbled)?);
        } else if found.flags & READ_ONLY != 0 {
            return Err(NbdError::ReadOnly { export: export(), address });
        }
        // The kernel sets its own timeouts for the socket.
        stream.set_read_timeout(None).map_err(failed)?;
        stream.set_write_timeout(None).map_err(failed)?;
        Ok(NbdConnection { stream, address, export: found, mark })
    }
}

impl NbdConnection {
    fn device(&self) -> NbdDevice<'_> {
        let Export { size, flags, block_size } = self.export;
        NbdDevice { socket: &self.stream, size, block_size, flags }
    }

    /// How the connection differs from the first one of the device; `None` when it has the same export with the same
    /// content.
    fn differs(&self, first: &Export, mark: Option<&[u8]>) -> Option<String> {
        let Export { size, flags, .. } = self.export;
        if size != first.size {
            return Some(["it has ", &size.to_string(), " bytes, and had ", &first.size.to_string()].concat());
        }
        if flags != first.flags {
            return Some("its flags are others".into());
        }
        (self.mark.as_deref() != mark).then(|| "it holds something else".into())
    }
}
