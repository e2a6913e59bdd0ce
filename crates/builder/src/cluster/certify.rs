//! Gets a certificate signed: a CertificateSigningRequest is made, approved, waited for and deleted.

use super::{Api, ApiError, CLIENT_SIGNER, REQUESTS};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// In which the cluster's controllers have signed it; a healthy cluster takes 0.2 s.
const SIGNING_TIME: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    #[error("{0}")]
    Api(#[from] ApiError),
    #[error("the cluster does not sign it: {reason}")]
    Failed { reason: String },
    #[error("the cluster has not signed it within {seconds} s: does kube-controller-manager run?")]
    Late { seconds: u64 },
}

/// The certificate of that node for a request that was checked, both PEM.
pub fn certify(api: &Api, node: &str, request: &str) -> Result<String, CertifyError> {
    let created = api.create(REQUESTS, &signing_request(node, request))?;
    let name = created["metadata"]["name"].as_str().unwrap_or_default().to_string();
    let place = format!("{REQUESTS}/{name}");
    let signed = sign(api, &place, created);
    // What is left is deleted by the cluster's controllers, after an hour.
    let _ = api.delete(&place);
    signed
}

fn signing_request(node: &str, request: &str) -> Value {
    json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": { "generateName": format!("bootwright-{node}-") },
        "spec": {
            "request": STANDARD.encode(request),
            "signerName": CLIENT_SIGNER,
            "usages": ["digital signature", "client auth"],
        },
    })
}

fn sign(api: &Api, place: &str, created: Value) -> Result<String, CertifyError> {
    approve(api, place, created, "the machine is this node by nodes.toml")?;
    let deadline = Instant::now() + SIGNING_TIME;
    loop {
        let found = api.get(place)?;
        if let Some(certificate) = certificate(&found) {
            return Ok(certificate);
        }
        if let Some(reason) = ["Denied", "Failed"].into_iter().find_map(|kind| condition(&found, kind)) {
            return Err(CertifyError::Failed { reason });
        }
        if Instant::now() > deadline {
            return Err(CertifyError::Late { seconds: SIGNING_TIME.as_secs() });
        }
        std::thread::sleep(PAUSE);
    }
}

/// Approves a request as it was read: one that has changed since is refused by the API server.
pub fn approve(api: &Api, place: &str, mut request: Value, message: &str) -> Result<(), ApiError> {
    let approved = json!({ "type": "Approved", "status": "True", "reason": "KnownNode", "message": message });
    match request["status"]["conditions"].as_array_mut() {
        Some(conditions) => conditions.push(approved),
        None => request["status"]["conditions"] = json!([approved]),
    }
    api.replace(&format!("{place}/approval"), &request).map(drop)
}

fn certificate(request: &Value) -> Option<String> {
    let bytes = STANDARD.decode(request["status"]["certificate"].as_str()?).ok()?;
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

/// What a condition of that type says.
pub fn condition(request: &Value, kind: &str) -> Option<String> {
    let found = request["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)?;
    Some(found["message"].as_str().unwrap_or_default().into())
}
