//! What a machine and `serve` say to each other when the machine becomes a node: one question, one signed answer, over plain HTTP. The
//! other end is `programs/pod/join.go`.
//!
//! Nothing in it is secret. An answer is good for one question: it repeats the question's nonce, and its certificate is of no use without
//! the key, which never leaves the machine. It is signed by the key that the machine was booted with ([`JoinPlace`]).

use super::{Api, ApiError, CertifyError, Skew, Version, certify, node_name, parse_request};
use crate::nodes::{Cluster, Mac};
use crate::signing::SigningKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

/// Version of the messages and of [`JoinPlace`].
pub const VERSION: u32 = 1;
/// Below the server's address.
pub const PATH: &str = "/join";
/// The file of a node's segment that holds a [`JoinPlace`].
pub const PLACE_FILE: &str = "etc/bootwright/join.json";
/// What is signed begins so: the same key may sign other things.
const SIGNED_PREFIX: &[u8] = b"bootwright join answer 1\n";
/// Bytes of a nonce: nobody meets one twice.
const NONCE: usize = 32;
/// Where a node has the cluster's CA.
const CA_FILE: &str = "/etc/kubernetes/pki/ca.crt";

/// Where a machine asks, and by which key it knows the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JoinPlace {
    version: u32,
    url: String,
    /// 32 bytes in base64.
    public_key: String,
}

impl JoinPlace {
    /// `server`: its address, without `/` at the end.
    pub fn new(server: &str, key: &[u8; 32]) -> Self {
        Self { version: VERSION, url: format!("{server}{PATH}"), public_key: STANDARD.encode(key) }
    }

    /// The bytes of [`PLACE_FILE`].
    pub fn document(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data")
    }
}

/// What a machine sends.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct JoinQuestion {
    version: u32,
    /// The name that it was booted with.
    node: String,
    #[serde(default)]
    pub mac: String,
    #[serde(default)]
    pub uuid: String,
    /// Base64.
    nonce: String,
    /// For a client's certificate, PEM.
    request: String,
}

/// What is sent back.
#[derive(Debug, Serialize)]
pub struct SignedAnswer {
    /// JSON in base64.
    answer: String,
    /// Of [`SIGNED_PREFIX`] and the bytes of `answer`: Ed25519, in base64.
    signature: String,
}

/// Why a machine gets no certificate. It is told so, in plain text.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("the question makes no sense: {problem}")]
    BadQuestion { problem: String },
    #[error("nodes.toml has no machine with MAC `{mac}` or UUID `{uuid}`")]
    Stranger { mac: String, uuid: String },
    #[error("`{name}` is known to be at another address")]
    NotItsAddress { name: String },
    #[error("this machine is `{own}` by nodes.toml, and asks to be `{asked}`")]
    OtherNode { own: String, asked: String },
    #[error("image `{image}`: {skew}")]
    Skew { image: String, skew: Skew },
    #[error("{0}")]
    Certify(#[from] CertifyError),
}

impl JoinQuestion {
    /// # Errors
    /// [`JoinError::BadQuestion`]
    pub fn parse(bytes: &[u8]) -> Result<Self, JoinError> {
        let bad = |problem: String| JoinError::BadQuestion { problem };
        let question: Self = serde_json::from_slice(bytes).map_err(|cause| bad(cause.to_string()))?;
        if question.version != VERSION {
            return Err(bad(format!("it has version {}, this server reads {VERSION}", question.version)));
        }
        match STANDARD.decode(&question.nonce) {
            Ok(nonce) if nonce.len() == NONCE => Ok(question),
            _ => Err(bad(format!("its nonce has not {NONCE} bytes"))),
        }
    }

    /// The MAC, where it is one.
    pub fn mac(&self) -> Option<Mac> {
        crate::nodes::parse_mac(&self.mac)
    }

    /// The UUID, where it tells a machine.
    pub fn uuid(&self) -> Option<String> {
        crate::nodes::parse_uuid(&self.uuid)
    }
}

/// Who answers: the cluster, the login to it, and the key.
pub struct Registrar {
    pub cluster: Cluster,
    pub api: Api,
    pub key: SigningKey,
    /// Image -> its kubelet's version.
    pub kubelets: BTreeMap<String, Version>,
}

impl Registrar {
    /// Answers a question, sent from that address, of the machine that is this node by nodes.toml. Waits for the cluster.
    ///
    /// # Errors
    /// [`JoinError`], to be told to the machine.
    pub fn answer(
        &self,
        question: &JoinQuestion,
        hostname: &str,
        image: &str,
        from: IpAddr,
    ) -> Result<SignedAnswer, JoinError> {
        let node = node_name(hostname);
        let other = |asked: &str| JoinError::OtherNode { own: node.clone(), asked: asked.into() };
        if question.node != node {
            return Err(other(&question.node));
        }
        let asked = parse_request(&question.request)
            .map_err(|problem| JoinError::BadQuestion { problem: problem.to_string() })?;
        if asked.node != node {
            return Err(other(&asked.node));
        }
        if !asked.names.is_empty() || !asked.addresses.is_empty() {
            return Err(JoinError::BadQuestion { problem: "a client's certificate has no names or addresses".into() });
        }
        self.check_skew(image)?;
        let certificate = certify(&self.api, &node, &question.request)?;
        Ok(self.sign(&self.document(question, &node, &certificate, from)))
    }

    /// Whether the image's kubelet may join the API server as it is now.
    ///
    /// # Errors
    /// [`JoinError::Skew`]
    pub fn check_skew(&self, image: &str) -> Result<(), JoinError> {
        let Some(kubelet) = self.kubelets.get(image) else { return Ok(()) };
        let server = server_version(&self.api).map_err(CertifyError::from)?;
        let skewed = |skew| JoinError::Skew { image: image.into(), skew };
        server.map_or(Ok(()), |server| Skew::check(*kubelet, server).map_err(skewed))
    }

    fn document(&self, question: &JoinQuestion, node: &str, certificate: &str, from: IpAddr) -> Value {
        let cluster = &self.cluster;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        json!({
            "version": VERSION,
            "nonce": question.nonce,
            "time": now,
            "cluster": cluster.name,
            "node": node,
            "servers": cluster.servers,
            "ca": cluster.ca,
            "certificate": certificate,
            "kubelet": kubelet_settings(cluster, from),
        })
    }

    fn sign(&self, document: &Value) -> SignedAnswer {
        let bytes = document.to_string().into_bytes();
        let signature = self.key.sign(&[SIGNED_PREFIX, &bytes].concat());
        SignedAnswer { answer: STANDARD.encode(bytes), signature: STANDARD.encode(signature) }
    }
}

/// The version that the API server says it has.
pub fn server_version(api: &Api) -> Result<Option<Version>, ApiError> {
    Ok(api.get("/version")?["gitVersion"].as_str().and_then(Version::parse))
}

/// What a kubelet of the cluster is set to, as a drop-in
/// (<https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/>): it serves, to whom the cluster lets in, with a certificate of
/// the cluster.
fn kubelet_settings(cluster: &Cluster, node: IpAddr) -> Value {
    let address = if node.is_ipv4() { "0.0.0.0" } else { "::" };
    let mut settings = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "enableServer": true,
        "address": address,
        "authentication": { "webhook": { "enabled": true }, "x509": { "clientCAFile": CA_FILE } },
        "authorization": { "mode": "Webhook" },
        "serverTLSBootstrap": true,
        "clusterDomain": cluster.domain,
    });
    if !cluster.dns.is_empty() {
        settings["clusterDNS"] = json!(cluster.dns);
    }
    settings
}
