//! Pods of a node that has no cluster: `pod_network = "bridge"`, and images from mirrors, as the boot server's `/v2/` is one.

use crate::static_pods::POD_RANGE;
use serde_json::json;
use std::time::Duration;
use testkit::QEMU;
use testkit::cluster::Authority;
use testkit::image::Image;
use testkit::layout::{add_image, add_shell_images, shell_of};
use testkit::need::have;
use testkit::registry::{Registry, TOKEN, TokenProxy};
use testkit::serve::Serve;
use testkit::ssh::{key, ssh_ok};
use testkit::vm::{Running, free_port, wait_until};

/// A pod with a host port that asks for something outside, and pods whose image comes over TLS or, by another authority, does not; and
/// mirrors for their images. PORT is that of the boot server, GUARDED that of one in front of it which wants a token, CACHE that of
/// a cache of it with TLS.
const RECIPE: &str = r#"
[vars]
pod_network = { default = "bridge" }

[registry."registry.k8s.io"]
mirrors = ["http://:PORT"]

[registry."docker.io"]
mirrors = ["https://10.0.2.2:CACHE"]
ca = "/etc/lab.crt"

[registry."registry.wrong.lab"]
mirrors = ["https://10.0.2.2:CACHE"]
ca = "/etc/other.crt"

[[file]]
path = "/etc/lab.crt"
content = """
RIGHT"""

[[file]]
path = "/etc/other.crt"
content = """
OTHER"""

[[file]]
path = "/etc/kubernetes/manifests/tls.yaml"
content = """
apiVersion: v1
kind: Pod
metadata: { name: tls }
spec:
  hostNetwork: true
  containers:
  - name: main
    image: docker.io/team/tls:1
    command: [/bin/sh, -c, "echo pulled > /out/tls; sleep 100000"]
    volumeMounts: [{ name: out, mountPath: /out }]
  volumes: [{ name: out, hostPath: { path: /run/pod, type: DirectoryOrCreate } }]
"""

[[file]]
path = "/etc/kubernetes/manifests/wrong.yaml"
content = """
apiVersion: v1
kind: Pod
metadata: { name: wrong }
spec:
  hostNetwork: true
  containers: [{ name: main, image: "registry.wrong.lab/team/tls:1" }]
"""

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

/// As a network without a router says it; the boot server is known.
const NO_GATEWAY: &str = "ip=10.0.2.15:10.0.2.2::255.255.255.0:n1:eth0:none";

#[test]
fn pods_have_their_images_from_mirrors_by_tls_too_and_as_soon_as_these_are_known_and_answer_at_host_ports() {
    if !have(&[QEMU, "docker-registry", "go", "ssh", "ssh-keygen", "unsquashfs"]) {
        return;
    }
    let port = free_port();
    let ssh_key = format!("ssh_key={}", key().public);
    let guard = TokenProxy::start(([127, 0, 0, 1], port).into(), None);
    let (right, other) = (Authority::fresh(), Authority::fresh());
    let identity = right.server(&["10.0.2.2"]);
    let cache = free_port();
    let recipe = [
        ("PORT", port.to_string()),
        ("GUARDED", guard.address.port().to_string()),
        ("CACHE", cache.to_string()),
        ("TOKEN", TOKEN.into()),
        ("RIGHT", right.certificate().into()),
        ("OTHER", other.certificate().into()),
    ];
    let recipe = recipe.iter().fold(RECIPE.to_string(), |text, (word, value)| text.replace(word, value)) + POD_RANGE;
    let sets = ["debug=true", "login_shell=/bin/sh", &ssh_key];
    let image = Image::build_variant("worker-bridge", "worker", &recipe, &sets);
    let layout = image.out.join("registry/lab");
    add_shell_images(&image.dir(), &layout, "registry.lab:5000/team/web:1", "hello from a pod\n");
    let files = [("bin/sh", &shell_of(&image.dir())[..])];
    add_image(&layout, ("io.containerd.image.name", "docker.io/team/tls:1"), &files, &["/bin/sh"]);
    let serve = Serve::start_at(port, &image.out, &["--out", "."]);
    let upstream = format!("http://127.0.0.1:{port}");
    let _cache = Registry::start_cache(cache, &upstream, &identity).expect("it is on the path");
    let machine = Running::start(&image, &["--ram-mib", "1024", "--append", NO_GATEWAY]);

    let pulled = wait_for(&machine, "[ -s /run/pod/tls ]", "cat /run/pod/tls");
    assert_eq!(pulled, "pulled\n", "with the right authority");
    let refused = wait_for(&machine, "bootwright-ctl logs kubelet | grep wrong.lab | grep -q x509", REFUSED);
    assert!(
        refused.contains("tls: failed to verify certificate: x509: certificate signed by unknown authority"),
        "{refused}"
    );

    the_gateway_becomes_known(&image, &machine, &guard);
    the_pod_is_reached(&machine);
    assert_eq!(ssh_ok(&machine, "ls /etc/cni/net.d").trim(), "10-containerd-net.conflist");
    let log = serve.log();
    for fetched in ["/v2/pause/manifests/3.10.1 200", "/v2/team/web/manifests/1 200", "/v2/team/web/blobs/sha256:"] {
        assert!(log.contains(fetched), "{fetched}: {log}");
    }
}

const REFUSED: &str = "bootwright-ctl logs kubelet | grep wrong.lab | grep x509 | tail -n 1";

/// What `then` says once `condition` holds.
#[track_caller]
fn wait_for(machine: &Running, condition: &str, then: &str) -> String {
    let wait = format!("for i in $(seq 800); do {{ {condition}; }} && {{ {then}; exit; }}; sleep 0.2; done");
    ssh_ok(machine, &format!("{wait}; bootwright-ctl logs kubelet; bootwright-ctl logs containerd; exit 1"))
}

/// The node runs without a mirror whose address nobody has told it, says so, and asks that mirror once it knows; it follows a lease that
/// says another one.
fn the_gateway_becomes_known(image: &Image, machine: &Running, guard: &TokenProxy) {
    let (registry, port) = ("registry.lab:5000", guard.address.port());
    let expected = format!(
        "registry-mirrors: `{registry}` goes without the mirror `http://${{gateway}}:{port}`: `${{gateway}}` is not known"
    );
    let console = image.console();
    assert!(console.contains(&expected), "{console}");
    assert!(guard.seen.lock().expect("no request of it failed").is_empty());
    let hosts = |registry: &str| ssh_ok(machine, &format!("cat '/etc/containerd/certs.d/{registry}/hosts.toml'"));
    assert!(hosts("registry.k8s.io").contains("[host.\"http://10.0.2.2:"), "{}", hosts("registry.k8s.io"));
    assert!(!hosts(registry).contains("[host."), "{}", hosts(registry));

    // As PID1 does when a lease says another one.
    let gateway = |before: &str, now: &str| {
        let replace =
            format!("sed 's/\"gateway\":{before}/\"gateway\":\"{now}\"/' lease.json > new && mv new lease.json");
        ssh_ok(machine, &format!("cd /run/bootwright && {replace}"));
        wait_for(
            machine,
            &format!("grep -q 'http://{now}:{port}' '/etc/containerd/certs.d/{registry}/hosts.toml'"),
            "true",
        );
    };
    gateway("null", "10.0.2.2");
    let answer = wait_for(machine, "[ -s /run/pod/answer ]", "cat /run/pod/answer");
    assert_eq!(answer.trim(), "{}", "what the pod was told outside");
    let seen = guard.seen.lock().expect("no request of it failed").clone();
    assert!(seen.iter().any(|(asked, _)| asked == "/v2/team/web/manifests/1?ns=registry.lab%3A5000"), "{seen:?}");
    assert!(seen.iter().all(|(_, has_token)| *has_token), "{seen:?}");
    gateway("\"10.0.2.2\"", "10.0.2.4");
    let memory = "for part in smaps_rollup; do cat /proc/$(pidof registry-mirrors)/$part; done | grep -E '^(Rss|Pss|Anonymous):'";
    eprintln!("registry-mirrors: {}", ssh_ok(machine, memory));
}

/// At its host port, from the node and from outside.
fn the_pod_is_reached(machine: &Running) {
    let inside = "for i in $(seq 100); do wget -q -O - http://127.0.0.1:8080/ && exit; sleep 0.2; done; exit 1";
    assert_eq!(ssh_ok(machine, inside).trim(), "hello from a pod");
    // By a port of this machine.
    let outside = free_port();
    let forward = format!("hostfwd_add net tcp:127.0.0.1:{outside}-10.0.2.15:8080");
    machine.command("human-monitor-command", json!({ "command-line": forward }));
    let url = format!("http://127.0.0.1:{outside}/");
    wait_until("the host port answers", Duration::from_secs(60), || {
        let page = ureq::get(&url).call().map(|mut answer| answer.body_mut().read_to_string());
        matches!(page, Ok(Ok(text)) if text.trim() == "hello from a pod")
    });
}
