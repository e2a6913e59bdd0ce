//! Pods of a node that has no cluster: `pod_network = "bridge"`, and images from mirrors, as the boot server's `/v2/` is one.

use crate::static_pods::POD_RANGE;
use serde_json::json;
use std::time::Duration;
use testkit::QEMU;
use testkit::image::Image;
use testkit::layout::add_shell_images;
use testkit::need::have;
use testkit::registry::{TOKEN, TokenProxy};
use testkit::serve::Serve;
use testkit::ssh::{key, ssh_ok};
use testkit::vm::{Running, free_port, wait_until};

/// A pod with a host port that asks for something outside; and
/// mirrors for its images. PORT is that of the boot server, GUARDED that of one in front of it which wants a
/// token.
const RECIPE: &str = r#"
[vars]
pod_network = { default = "bridge" }

[registry."registry.k8s.io"]
mirrors = ["http://:PORT"]

# By hand, with a login, as a node's own files may have it.
[[file]]
path = "/etc/containerd/certs.d.boot/registry.lab:5000/hosts.toml"
content = """
[host."http://$${gateway}:GUARDED"]
capabilities = ["pull", "resolve"]
[host."http://$${gateway}:GUARDED".header]
Authorization = "Bearer TOKEN"
"""
secrets = "allowed"
secrets_reason = "what this test's own registry wants"

[[file]]
path = "/etc/kubernetes/manifests/web.yaml"
content = """
apiVersion: v1
kind: Pod
metadata: { name: web }
spec:
  initContainers:
  - { name: first, image: "registry.k8s.io/pause:3.10.1", command: [/bin/sh, -c, "true"] }
  containers:
  - name: main
    image: registry.lab:5000/team/web:1
    command: [/bin/sh, -c, "wget -O /out/answer http://10.0.2.2:PORT/v2/; httpd -f -p 80 -h /www"]
    ports: [{ containerPort: 80, hostPort: 8080 }]
    volumeMounts: [{ name: out, mountPath: /out }]
  volumes: [{ name: out, hostPath: { path: /run/pod, type: DirectoryOrCreate } }]
"""

# The shell is more than the worker's budget allows.
[budget]
boot_files_mb = 80
ram_mib = 1024
"#;

#[test]
fn a_pod_on_the_bridge_has_its_image_from_the_boot_server_reaches_outside_and_answers_at_its_host_port() {
    if !have(&[QEMU, "go", "ssh", "ssh-keygen", "unsquashfs"]) {
        return;
    }
    let port = free_port();
    let ssh_key = format!("ssh_key={}", key().public);
    let guard = TokenProxy::start(([127, 0, 0, 1], port).into(), None);
    let guarded = guard.address.port();
    let recipe =
        RECIPE.replace("PORT", &port.to_string()).replace("GUARDED", &guarded.to_string()).replace("TOKEN", TOKEN);
    let recipe = recipe + POD_RANGE;
    let sets = ["debug=true", "login_shell=/bin/sh", &ssh_key];
    let image = Image::build_variant("worker-bridge", "worker", &recipe, &sets);
    add_shell_images(
        &image.dir(),
        &image.out.join("registry/lab"),
        "registry.lab:5000/team/web:1",
        "hello from a pod\n",
    );
    let serve = Serve::start_at(port, &image.out, &["--out", "."]);
    let machine = Running::start(&image, &["--ram-mib", "1024"]);

    let answer = ssh_ok(
        &machine,
        "for i in $(seq 800); do [ -s /run/pod/answer ] && exec cat /run/pod/answer; sleep 0.2; done; \
         bootwright-ctl logs kubelet; bootwright-ctl logs containerd",
    );
    assert_eq!(answer.trim(), "{}", "what the pod was told outside");
    let inside = "for i in $(seq 100); do wget -q -O - http://127.0.0.1:8080/ && exit; sleep 0.2; done; exit 1";
    assert_eq!(ssh_ok(&machine, inside).trim(), "hello from a pod");
    // From outside, by a port of this machine.
    let outside = free_port();
    let forward = format!("hostfwd_add net tcp:127.0.0.1:{outside}-10.0.2.15:8080");
    machine.command("human-monitor-command", json!({ "command-line": forward }));
    let url = format!("http://127.0.0.1:{outside}/");
    wait_until("the host port answers", Duration::from_secs(60), || {
        let page = ureq::get(&url).call().map(|mut answer| answer.body_mut().read_to_string());
        matches!(page, Ok(Ok(text)) if text.trim() == "hello from a pod")
    });

    let written = "cd /etc/containerd/certs.d && cat registry.k8s.io/hosts.toml registry.lab:5000/hosts.toml";
    let hosts = ssh_ok(&machine, written);
    for port in [port, guarded] {
        assert!(hosts.contains(&format!("[host.\"http://10.0.2.2:{port}\"]")), "{hosts}");
    }
    assert_eq!(ssh_ok(&machine, "ls /etc/cni/net.d").trim(), "10-containerd-net.conflist");
    let log = serve.log();
    for fetched in ["/v2/pause/manifests/3.10.1 200", "/v2/team/web/manifests/1 200", "/v2/team/web/blobs/sha256:"] {
        assert!(log.contains(fetched), "{fetched}: {log}");
    }
    let seen = guard.seen.lock().expect("no request of it failed").clone();
    assert!(seen.iter().any(|(asked, _)| asked == "/v2/team/web/manifests/1?ns=registry.lab%3A5000"), "{seen:?}");
    assert!(seen.iter().all(|(_, has_token)| *has_token), "{seen:?}");
}
