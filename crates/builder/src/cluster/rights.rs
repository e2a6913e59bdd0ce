//! The ServiceAccount of `serve` in the cluster, and what it may do.

use super::{Api, ApiError, ClusterError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::time::{Duration, Instant};

/// All of it, as `bootwright cluster manifests` prints it.
pub const MANIFESTS: &str = include_str!("rights.yaml");
/// Where each document of [`MANIFESTS`] is in the API, in its order.
const PLACES: [&str; 5] = [
    "/api/v1/namespaces/bootwright",
    "/api/v1/namespaces/bootwright/serviceaccounts/boot-server",
    TOKEN,
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/bootwright:boot-server",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/bootwright:boot-server",
];
const TOKEN: &str = "/api/v1/namespaces/bootwright/secrets/boot-server-token";
/// In which the cluster's controllers have written the token.
const TOKEN_TIME: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
/// The role whose holders' requests for a node's certificate are approved by the cluster's own controllers.
const NODE_CLIENT: &str = "system:certificates.k8s.io:certificatesigningrequests:nodeclient";
/// The groups of bootstrap tokens begin so.
const BOOTSTRAPPERS: &str = "system:bootstrappers";

/// Makes all of it, or brings it up to date.
pub fn apply(admin: &Api) -> Result<(), ApiError> {
    for (place, document) in PLACES.into_iter().zip(MANIFESTS.split("---\n")) {
        admin.apply(place, document)?;
    }
    Ok(())
}

/// The ServiceAccount's token, once the cluster has made it.
pub fn token(admin: &Api) -> Result<String, ClusterError> {
    let deadline = Instant::now() + TOKEN_TIME;
    loop {
        let secret = admin.get(TOKEN)?;
        let token = secret["data"]["token"].as_str().and_then(|text| STANDARD.decode(text).ok());
        if let Some(token) = token.and_then(|bytes| String::from_utf8(bytes).ok()) {
            return Ok(token);
        }
        if Instant::now() > deadline {
            return Err(ClusterError::NoToken { seconds: TOKEN_TIME.as_secs() });
        }
        std::thread::sleep(PAUSE);
    }
}

/// The ClusterRoleBindings by which anybody with a bootstrap token becomes any node.
pub fn bindings_of_tokens(admin: &Api) -> Result<Vec<String>, ApiError> {
    let bindings = admin.get(BINDINGS)?;
    let lets = |binding: &&Value| {
        let subjects = binding["subjects"].as_array();
        let of_tokens = |subject: &Value| {
            let name = subject["name"].as_str().unwrap_or_default();
            let everybody = ["system:authenticated", "system:unauthenticated"].contains(&name);
            subject["kind"] == "Group" && (everybody || name.starts_with(BOOTSTRAPPERS))
        };
        binding["roleRef"]["name"] == NODE_CLIENT && subjects.is_some_and(|subjects| subjects.iter().any(of_tokens))
    };
    let names = bindings["items"].as_array().into_iter().flatten().filter(lets);
    Ok(names.filter_map(|binding| binding["metadata"]["name"].as_str().map(String::from)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_document_has_its_place() {
        let documents: Vec<Value> =
            MANIFESTS.split("---\n").map(|text| serde_saphyr::from_str(text).unwrap()).collect();
        assert_eq!(documents.len(), PLACES.len());
        for (place, document) in PLACES.into_iter().zip(&documents) {
            let name = document["metadata"]["name"].as_str().unwrap();
            let kind = format!("/{}s/", document["kind"].as_str().unwrap().to_ascii_lowercase());
            assert!(place.ends_with(name) && place.contains(&kind), "{place}: {document:#}");
        }
    }
}
