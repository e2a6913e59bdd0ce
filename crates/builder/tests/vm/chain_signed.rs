//! Signatures in the boot chain: an iPXE that verifies them, and one that cannot.

use crate::chain::{DEADLINE_S, Lab, MAC, entry, first};
use assert_cmd::Command;
use sha2::{Digest, Sha256};
use std::time::Duration;
use testkit::programs::test_program;
use testkit::serve::Serve;
use testkit::vm::{boot_until, smoke, wait_until};
use testkit::{QEMU, need::have, rescue};

/// SHA-256 of the certificate that an iPXE trusts which was built without `TRUST=` (its `crypto/rootcert.c`).
const TRUSTED: &str = "9faf717b7f8ca2f93c256c79f8ac5591895d66d1ff3bee6397a70d29c65eed1a";

/// The iPXE that can verify calls itself so; the card's own starts it.
const FIRST: &str = "#!ipxe
iseq ${user-class} Tinkerbell && chain ../boot/boot.ipxe || chain ipxe.efi
";

/// A lab with a certificate.
fn signed_lab() -> (Lab, Vec<u8>) {
    let lab = Lab::new(&rescue());
    let openssl = |args: &[&str]| {
        Command::new("openssl").current_dir(lab.path("")).args(args).assert().success().get_output().stdout.clone()
    };
    let key = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "cert", "-days", "2"];
    let usage = ["-addext", "keyUsage=digitalSignature", "-addext", "extendedKeyUsage=codeSigning"];
    openssl(&[&key[..], &["-subj", "/CN=code"], &usage].concat());
    let cert = openssl(&["x509", "-in", "cert", "-outform", "DER"]);
    (lab, cert)
}

fn serve(lab: &Lab, args: &[&str]) -> Serve {
    lab.serve_with(&[&["--codesign-cert", "cert", "--codesign-key", "key"], args].concat())
}

#[test]
fn an_ipxe_that_cannot_verify_says_so_and_boots_nothing() {
    if !have(&[QEMU, "openssl"]) {
        return;
    }
    let (lab, _) = signed_lab();
    let serve = serve(&lab, &[]);
    let args = ["--via", "ipxe", "--bootfile", &entry(&serve), "--mac", MAC, "--deadline-s", DEADLINE_S];
    let console = boot_until(&lab.image, &args, "rescue could not be booted");
    assert!(console.contains("this iPXE cannot verify signatures"), "{console}");
    assert!(!serve.log().contains("/vmlinuz"), "nothing is loaded that cannot be verified: {}", serve.log());
}

/// An initrd that is not what was signed is refused; once it is what was signed, the machine boots.
#[test]
fn ipxe_verifies_what_it_boots() {
    let ipxe = test_program("ipxe.efi");
    if !have(&[QEMU, "openssl", &ipxe]) {
        return;
    }
    let (lab, cert) = signed_lab();
    let loaders = lab.path("boot-loaders");
    std::fs::create_dir(&loaders).unwrap();
    std::fs::write(loaders.join("ipxe.efi"), trusting(&std::fs::read(&ipxe).unwrap(), &cert)).unwrap();
    std::fs::write(loaders.join("undionly.kpxe"), "").unwrap();
    lab.write_first(FIRST);
    let serve = serve(&lab, &["--loaders", "boot-loaders"]);
    let initrd = lab.image.dir().join("initrd.img");
    let signed = std::fs::read(&initrd).unwrap();
    std::fs::write(&initrd, [&signed[..], b"more"].concat()).unwrap();
    let first = first(&serve);
    let args = ["--via", "ipxe", "--firmware", "uefi", "--bootfile", &first, "--mac", MAC, "--deadline-s", DEADLINE_S];
    let refused = "verifying the signatures failed, attempt 1 of 5";
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_until(refused, Duration::from_secs(250), || lab.image.console().contains(refused));
            std::fs::write(&initrd, &signed).unwrap();
        });
        smoke(&lab.image, &args)
    });
    outcome.assert_passed();
    let console = outcome.console();
    let (before, _) = console.split_once(refused).expect("it was waited for");
    assert!(before.contains("initrd.img.sig... ok"), "the kernel was good: {console}");
    let log = serve.log();
    for fetch in ["boot/signatures/rescue/vmlinuz.sig", "boot/signatures/rescue/initrd.img.sig", "n1.cpio.gz.sig"] {
        assert!(log.contains(&format!("{fetch} 200")), "no {fetch} in {log}");
    }
}

/// The same iPXE, but trusting this certificate, as `make TRUST=` builds it.
fn trusting(ipxe: &[u8], cert: &[u8]) -> Vec<u8> {
    let trusted = hex::decode(TRUSTED).unwrap();
    let at = ipxe.windows(trusted.len()).position(|window| window == trusted).expect("it was built without TRUST=");
    [&ipxe[..at], &Sha256::digest(cert)[..], &ipxe[at + trusted.len()..]].concat()
}
