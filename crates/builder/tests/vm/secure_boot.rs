//! Kernels that load signed modules only: told so, or locked down as UEFI's Secure Boot is on.

use testkit::QEMU;
use testkit::image::Image;
use testkit::machine::{Card, Machine, words_for};
use testkit::need::have;
use testkit::secure_boot::{self, BootDisk};

/// Modules as Debian has signed them. How well the root is compressed does not matter here.
const AS_DEBIAN_HAS_THEM: &str =
    "[kernel]\nstrip = false\n[root]\nlevel = 1\n[budget]\nboot_files_mb = 90\nram_mib = 400\n";
/// What the kernel says where it is locked down because of Secure Boot (`init_lockdown` and `lock_kernel_down`).
const LOCKED: &str = "Kernel is locked down from EFI Secure Boot";
const KUBELET: &str = "service kubelet ready in ";

/// The kernel has refused nothing, and has loaded nothing that it does not trust.
fn assert_all_modules_are_signed(console: &str) {
    for refused in ["Loading of unsigned module", "Key was rejected", "unavailable key", "module verification failed"] {
        assert!(!console.contains(refused), "{console}");
    }
}

#[test]
fn debians_signatures_are_enough_for_a_kernel_that_enforces_them() {
    if !have(&[QEMU]) {
        return;
    }
    let image = Image::build_variant("rescue-unstripped", "rescue", AS_DEBIAN_HAS_THEM, &[]);
    let machine = Machine::start(&image, "module.sig_enforce=1", &[Card::User]);
    machine.await_line("service sshd ready in ");
    assert_all_modules_are_signed(&machine.console());
}

#[test]
fn kubelet_is_healthy_under_secure_boot_with_debians_signatures() {
    if !have(&[&[QEMU, "go"], &secure_boot::NEEDED[..]].concat()) {
        return;
    }
    let image = Image::build_variant("worker-unstripped", "worker", AS_DEBIAN_HAS_THEM, &[]);
    let disk = BootDisk::with_image(&image, &words_for(""));
    let machine = Machine::start_securely(&disk, 768, &[], &[Card::User]);
    machine.await_line(KUBELET);
    let console = machine.console();
    assert!(console.contains(LOCKED), "{console}");
    assert_all_modules_are_signed(&console);
}
