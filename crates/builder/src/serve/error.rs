//! What can go wrong while serving.

use crate::cluster::ClusterError;
use crate::error::{Exit, Failure};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: SocketAddr, cause: std::io::Error },
    #[error("cannot serve `{}`: {cause}", path.display())]
    Folder { path: PathBuf, cause: std::io::Error },
    #[error("cannot watch for signals: {cause}")]
    Signals { cause: std::io::Error },
    #[error("`{}` is missing, which machines are given by TFTP", path.display())]
    NoLoader { path: PathBuf },
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("{0}")]
    Cluster(Box<ClusterError>),
    #[error("cannot start `dnsmasq`: {cause}")]
    NoDnsmasq { cause: std::io::Error },
    #[error("`dnsmasq` ended ({status}){}", if said.is_empty() { String::new() } else { format!(": {said}") })]
    DnsmasqEnded { status: String, said: String },
}

impl ServeError {
    /// The `help:` line.
    pub fn help(&self) -> String {
        let help = match self {
            Self::Cluster(cause) => return cause.help(),
            Self::Listen { cause, .. } if cause.kind() == std::io::ErrorKind::AddrInUse => {
                "something listens there already: take another port with --listen ADDRESS:PORT"
            }
            Self::Listen { .. } => {
                "take an address of this machine, and a port that you may open, with --listen ADDRESS:PORT"
            }
            Self::Folder { cause, .. } if cause.kind() == std::io::ErrorKind::Unsupported => {
                "it keeps links from leading out of the folder: Linux has it since 5.6; another web server may serve the folder"
            }
            Self::Folder { .. } => "check the path and its permissions",
            Self::Signals { .. } => "this should not happen: report it with the output of `bootwright doctor`",
            Self::NoLoader { .. } => "install iPXE (Debian: `apt-get install ipxe`), or name its folder with --loaders",
            Self::Io { .. } => "check the path, its permissions and the free space",
            Self::NoDnsmasq { .. } => {
                "install it (Debian: `apt-get install dnsmasq-base`), or leave --proxy and --dhcp-range out"
            }
            Self::DnsmasqEnded { .. } => {
                "another DHCP or TFTP server may run here; `dnsmasq --test --conf-file=...` checks the configuration"
            }
        };
        help.into()
    }
}

impl From<ServeError> for Failure {
    fn from(e: ServeError) -> Self {
        Self { exit: Exit::Other, message: e.to_string(), help: Some(e.help()) }
    }
}
