//! The worker's kubelet becomes healthy, and the small worker's with little RAM.

use testkit::image::Image;
use testkit::vm::smoke;
use testkit::{QEMU, need::have};

/// Guest uptime at which kubelet has to be healthy with 192 MiB, seconds; on a busy machine without KVM that is no failure of the image.
const TIGHT_LIMIT_S: f64 = 30.0;

#[test]
fn kubelet_is_healthy_with_512_mib() {
    if !have(&[QEMU, "go"]) {
        return;
    }
    let outcome = smoke(&Image::build("worker", &[]), &["--ram-mib", "512"]);
    outcome.assert_passed();
    eprintln!("kubelet healthy after {:?} s", outcome.uptime_s("service:kubelet"));
}

#[test]
fn kubelet_is_healthy_with_192_mib() {
    if !have(&[QEMU, "go"]) {
        return;
    }
    let outcome = smoke(&Image::build("worker-small", &[]), &["--ram-mib", "192", "--until", "service:kubelet"]);
    outcome.assert_passed();
    let uptime_s = outcome.uptime_s("service:kubelet").expect("PID1 said when");
    eprintln!("kubelet healthy after {uptime_s} s");
    if outcome.report["engine"] == "kvm" {
        assert!(uptime_s < TIGHT_LIMIT_S, "{uptime_s} s");
    }
}
