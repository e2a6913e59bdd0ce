//! A Kubernetes cluster that nodes join. `bootwright cluster add` makes a ServiceAccount there and writes `[cluster]` into nodes.toml;
//! with it `bootwright serve` gets nodes their certificates: a node makes its key and sends a request ([`join`]), [`certify`] has the API
//! server sign it, and [`approve`] lets kubelets have the certificates that they ask for later. No node has a token, and no image a secret.

mod add;
mod api;
mod approve;
mod certify;
mod error;
pub mod join;
mod kubeconfig;
mod nodes_file;
mod request;
mod rights;
mod skew;

pub use add::{AddOptions, AddPlan, plan};
pub use api::{Api, ApiError};
pub use approve::{Approver, Verdict};
pub use certify::{CertifyError, certify};
pub use error::ClusterError;
pub use kubeconfig::{Access, Login, load_kubeconfig};
pub use request::{BadRequest, NodeRequest, parse_request};
pub use rights::MANIFESTS;
pub use skew::{Skew, Version, kubelet_version};

/// Signer of kubelets' client certificates
/// (<https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/>, "Kubernetes signers").
pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Signer of the certificates that kubelets serve with.
pub const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
/// What a node's user begins with; its name in the cluster comes behind (Node authorization).
pub const NODE_USER: &str = "system:node:";
/// The one group that a node's certificate names.
pub const NODE_GROUP: &str = "system:nodes";
/// Where requests are in the API.
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// A node's name in the cluster: its host name as kubelet takes it, in lower case.
pub fn node_name(hostname: &str) -> String {
    hostname.to_ascii_lowercase()
}
