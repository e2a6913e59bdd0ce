//! What can go wrong with a cluster.

use super::{ApiError, Skew};
use crate::error::{Exit, Failure};
use crate::signing::SigningError;
use std::path::PathBuf;

/// Exit code 2 where the user's files are to blame, 3 where the cluster is, else 1.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("`{}` is no kubeconfig: {problem}", path.display())]
    Kubeconfig { path: PathBuf, problem: String },
    #[error("`{}` logs in by `{method}`, which this tool cannot do", path.display())]
    Login { path: PathBuf, method: &'static str },
    #[error("`{server}` is this machine's own address, which no node reaches")]
    Loopback { server: String },
    #[error("`{}` lies in `{}`, which is served to anybody", folder.display(), out.display())]
    Served { folder: PathBuf, out: PathBuf },
    #[error("`{}` belongs to the cluster `{other}`", path.display())]
    OtherCluster { path: PathBuf, other: String },
    #[error("`{}` is not TOML: {problem}", path.display())]
    NodesFile { path: PathBuf, problem: String },
    #[error("image `{image}`: {skew}")]
    Skew { image: String, skew: Skew },
    #[error("the cluster made no credential for the ServiceAccount within {seconds} s")]
    NoToken { seconds: u64 },
    #[error("{0}")]
    Api(#[from] ApiError),
    #[error("{0}")]
    Signing(#[from] SigningError),
}

impl ClusterError {
    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::Io { .. } => "check the path, its permissions and the free space".into(),
            Self::Kubeconfig { .. } => {
                "take the file that kubectl uses, such as /etc/kubernetes/admin.conf of a control plane; --context names one of its contexts".into()
            }
            Self::Login { .. } => {
                "take a kubeconfig with a client certificate or a token; or apply `bootwright cluster manifests` by hand, and use the \
                 ServiceAccount's token in a kubeconfig of your own"
                    .into()
            }
            Self::Loopback { .. } => "name the address that nodes reach with --server https://HOST:PORT".into(),
            Self::Served { .. } => "name a folder for what is secret with --credentials DIR".into(),
            Self::OtherCluster { .. } => "one nodes.toml has one cluster: take its `[cluster]` out, or name another file with --nodes".into(),
            Self::NodesFile { .. } => "correct it first: `bootwright boot` shows its problems".into(),
            Self::Skew { .. } => {
                "build an image with a kubelet that fits (https://kubernetes.io/releases/version-skew-policy/), or renew the control plane".into()
            }
            Self::NoToken { .. } => {
                "its controllers write it into the Secret `boot-server-token`: check that kube-controller-manager runs, then try again".into()
            }
            Self::Api(cause) => cause.help().into(),
            Self::Signing(cause) => cause.help(),
        }
    }
}

impl From<ClusterError> for Failure {
    fn from(e: ClusterError) -> Self {
        let exit = match &e {
            ClusterError::Io { .. } => Exit::Other,
            ClusterError::Api(_) | ClusterError::NoToken { .. } => Exit::Source,
            _ => Exit::Usage,
        };
        Self { exit, message: e.to_string(), help: Some(e.help()) }
    }
}
