//! The loss of a root's server under a worker: it is told, it is repaired, and kubelet notices nothing.

use serde_json::Value;
use std::time::{Duration, Instant};
use testkit::image::Image;
use testkit::ssh::{key, ssh_ok};
use testkit::vm::{Running, wait_until};

/// How long the server is away.
pub const AWAY: Duration = Duration::from_secs(20);

/// A shell for the load. It comes with the initrd, so that the root on the server is the one that ships, byte for byte.
pub const SHELL: &str = r#"
[[component]]
name = "shell"
segment = "config"
deb = { suite = "${suite}", packages = ["busybox-static"], depends = false }
paths = ["usr/bin/busybox"]
rename = { "usr/bin/busybox" = "usr/bin/sh" }
[[file]]
path = "/usr/bin/busybox"
link = "sh"
[budget]
netroot_initrd_mb = 8
"#;

/// The smallest worker that ships, with a shell beside it.
pub fn worker(root: &str) -> Image {
    let key = format!("ssh_key={}", key().public);
    Image::build_variant_with_root("worker-shell", "worker-small", SHELL, &["login_shell=/bin/sh", &key], Some(root))
}

/// Process and starts of kubelet.
#[derive(Debug, PartialEq)]
pub struct Kubelet {
    pid: u64,
    restarts: u64,
}

impl Kubelet {
    /// The one that runs; it must be healthy.
    #[track_caller]
    pub fn of(machine: &Running) -> Kubelet {
        assert_eq!(ssh_ok(machine, "busybox wget -q -O - http://127.0.0.1:10248/healthz"), "ok");
        let status = ssh_ok(machine, "bootwright-ctl status --json");
        let status: Value = serde_json::from_str(&status).expect("it is JSON");
        let services = status["services"].as_array().expect("a list");
        let kubelet = services.iter().find(|service| service["name"] == "kubelet").expect("it is a service");
        assert_eq!(kubelet["state"], "ready", "{kubelet}");
        let number = |key: &str| kubelet[key].as_u64().expect("a number");
        Kubelet { pid: number("pid"), restarts: number("restarts") }
    }
}

/// Kills the server (`up(false)`) and starts it again after [`AWAY`]; the machine must say both, and be connected again
/// `within` that time.
#[track_caller]
pub fn outage(image: &Image, within: Duration, mut up: impl FnMut(bool)) {
    up(false);
    wait_until("the loss is told", Duration::from_secs(30), || image.console().contains(" is lost"));
    std::thread::sleep(AWAY);
    assert!(!image.console().contains(" is back"), "{}", image.console());
    up(true);
    let since = Instant::now();
    wait_until("it is connected again", within, || image.console().contains(" is back after "));
    eprintln!("connected again after {:.1} s", since.elapsed().as_secs_f64());
}
