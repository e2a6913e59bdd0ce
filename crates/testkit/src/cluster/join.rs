//! What a cluster needs so that nodes may join it with a token
//! (<https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/>).

use super::Api;
use serde_json::{Value, json};

const TOKEN_ID: &str = "abcdef";
const TOKEN_SECRET: &str = "0123456789abcdef";
/// With it anybody may ask for a node's certificate. It is known to all, and so good for a test's cluster only.
pub const BOOTSTRAP_TOKEN: &str = "abcdef.0123456789abcdef";

/// The group that the API server is in when it asks kubelets for logs and the rest.
pub const KUBELET_CLIENTS: &str = "test:kubelet-clients";

/// A group and the role that is given to it; the roles are built in.
const BINDINGS: [(&str, &str); 4] = [
    ("system:bootstrappers", "system:node-bootstrapper"),
    ("system:bootstrappers", "system:certificates.k8s.io:certificatesigningrequests:nodeclient"),
    ("system:nodes", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"),
    (KUBELET_CLIENTS, "system:kubelet-api-admin"),
];

/// Creates the token and says what those who come with it, and nodes, may do.
pub fn allow(admin: &Api) {
    admin.create("/api/v1/namespaces/kube-system/secrets", &token());
    for (number, (group, role)) in BINDINGS.into_iter().enumerate() {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": { "name": format!("test-{number}") },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group }],
        });
        admin.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding);
    }
}

fn token() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": format!("bootstrap-token-{TOKEN_ID}"), "namespace": "kube-system" },
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": TOKEN_ID,
            "token-secret": TOKEN_SECRET,
            "usage-bootstrap-authentication": "true",
        },
    })
}
