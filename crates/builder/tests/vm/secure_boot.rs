//! Kernels that load signed modules only: told so, or locked down as UEFI's Secure Boot is on.

use crate::outage::SHELL;
use bootwright::module_signing::ModuleSigner;
use std::fs;
use std::path::Path;
use std::process::Command;
use testkit::QEMU;
use testkit::folders::work_folder;
use testkit::image::Image;
use testkit::machine::{Card, Machine, words_for};
use testkit::need::have;
use testkit::secure_boot::{self, BootDisk, CERTIFICATE};
use testkit::ssh::{key, ssh_at};
use testkit::vm::free_port;

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

/// A folder with what is to be refused: a module without a signature, and one with that of a key that nobody has enrolled.
fn refused_modules() -> String {
    let folder = work_folder().join("refused-modules");
    let (srv, key, certificate) = (folder.join("tree/srv"), folder.join("other.key"), folder.join("other.crt"));
    fs::create_dir_all(&srv).expect("cargo's folder for tests is writable");
    if !key.exists() {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other", "-keyout"]).arg(&key);
        assert!(openssl.arg("-out").arg(&certificate).output().expect("it was looked for").status.success());
    }
    let module = vec![7; 5000];
    let signer = ModuleSigner::load(&key, &certificate).expect("a pair");
    fs::write(srv.join("other.ko"), signer.sign(&module).expect("it signs")).expect("the folder is the test's own");
    fs::write(srv.join("unsigned.ko"), module).expect("the folder is the test's own");
    format!("[[overlay]]\nname = \"refused\"\ndir = {:?}\nsegment = \"root\"\n", folder.join("tree"))
}

#[test]
fn kubelet_is_healthy_under_secure_boot_with_modules_that_are_signed_anew() {
    if !have(&[&[QEMU, "go", "ssh", "ssh-keygen"], &secure_boot::NEEDED[..]].concat()) {
        return;
    }
    let db_key = secure_boot::key_in(&work_folder());
    let text = format!("{}{SHELL}boot_files_mb = 90\nram_mib = 400\n[root]\nlevel = 1\n", refused_modules());
    let sets = ["login_shell=/bin/sh", &format!("ssh_key={}", key().public)];
    let pair = [db_key.as_path(), Path::new(CERTIFICATE)];
    let image = Image::build_variant_signed("worker-signed", "worker", &text, &sets, pair);
    let disk = BootDisk::with_image(&image, &words_for(""));
    let port = free_port();
    let machine = Machine::start_securely(&disk, 768, &[], &[Card::Ssh(port)]);
    machine.await_line(KUBELET);
    let console = machine.console();
    assert!(console.contains(LOCKED), "{console}");
    assert_all_modules_are_signed(&console);
    for (module, said) in [
        ("unsigned", "Loading of unsigned module is rejected"),
        ("other", "Loading of module with unavailable key is rejected"),
    ] {
        let output = ssh_at(port, &format!("busybox insmod /srv/{module}.ko"));
        assert!(!output.status.success(), "{module}");
        machine.await_line(said);
    }
    // What a pod network loads later is signed too.
    let loaded = ssh_at(port, "modprobe wireguard && cat /proc/modules");
    let modules = String::from_utf8_lossy(&loaded.stdout);
    assert!(modules.contains("wireguard ") && !modules.contains("(E)"), "{modules}");
}
