//! The control plane that tests start: a node is given a certificate by its token, and may do what a node may.

use base64::Engine;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::cluster::{Api, BOOTSTRAP_TOKEN, Cluster, Identity, certificate_request, kubernetes_version};
use testkit::need::pinned_go;
use testkit::running::{runs, wait_until};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const NODES: &str = "/api/v1/nodes";

#[test]
fn a_node_is_given_a_certificate_for_its_token_and_creates_its_node_object() {
    if pinned_go().is_none() {
        return;
    }
    let cluster = Cluster::start();
    let version = cluster.admin.get("/version").body;
    assert_eq!(version["gitVersion"], format!("v{}", kubernetes_version()));
    assert_eq!(cluster.api_as_stranger().get(NODES).status, 403, "the administrator's certificate opens this");
    assert_eq!(cluster.api_with_token("abcdef.fedcba9876543210").get(NODES).status, 401);

    let newcomer = cluster.api_with_token(BOOTSTRAP_TOKEN);
    assert_eq!(newcomer.get(NODES).status, 403, "the token is good for a certificate only");
    let (request, key) = certificate_request("system:node:n1", &["system:nodes"]);
    let certificate = request_certificate(&newcomer, &request);

    let node = cluster.api_with_certificate(&Identity { certificate, key });
    let object = |name: &str| json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } });
    node.create(NODES, &object("n1"));
    let foreign = node.post(NODES, &object("n2"));
    assert_eq!(foreign.status, 403, "a node is no other node: {:#}", foreign.body);
    let nodes = cluster.admin.get(NODES).body;
    let names: Vec<&Value> =
        nodes["items"].as_array().expect("a list").iter().map(|n| &n["metadata"]["name"]).collect();
    assert_eq!(names, ["n1"]);

    let pids = cluster.pids();
    assert_eq!(pids.len(), 3);
    drop(cluster);
    wait_until("all of it has ended", Duration::from_secs(10), || pids.iter().all(|pid| !runs((*pid).into())));
}

/// Asks for a node's certificate and waits until the controllers have approved and signed it; the certificate in PEM.
fn request_certificate(newcomer: &Api, request: &str) -> String {
    let base64 = base64::engine::general_purpose::STANDARD;
    let spec = json!({
        "request": base64.encode(request),
        "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
        "usages": ["digital signature", "client auth"],
    });
    let body = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": { "name": "n1" },
        "spec": spec,
    });
    newcomer.create(REQUESTS, &body);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status = newcomer.get(&format!("{REQUESTS}/n1")).body["status"].clone();
        if let Some(certificate) = status["certificate"].as_str() {
            assert_eq!(status["conditions"][0]["type"], "Approved", "{status:#}");
            let certificate = base64.decode(certificate).expect("it is base64");
            return String::from_utf8(certificate).expect("it is PEM");
        }
        assert!(Instant::now() < deadline, "no certificate: {status:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A node is tested against the release that its kubelet is of.
#[test]
fn the_control_plane_is_of_the_workers_release() {
    let read = |name: &str| std::fs::read_to_string(testkit::folders::project_root().join(name)).expect("a file");
    let recipe = read("recipes/worker.toml");
    let kubelet = recipe.split_once("module = \"k8s.io/kubernetes\"\nversion = \"v").expect("it builds kubelet").1;
    assert_eq!(kubelet.split('"').next(), Some(kubernetes_version()));
}
