//! The hash of EFI programs, against what sbsign(1) puts into signatures of them.

use bootwright::measure::pe::authenticode;
use std::fs;
use testkit::need::have;
use testkit::secure_boot::{self, CERTIFICATE};

const PROGRAMS: [&str; 2] =
    ["/usr/lib/systemd/boot/efi/systemd-bootx64.efi", "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"];

/// A signature holds the hash of what it is of (`SpcIndirectDataContent`, as an OCTET STRING of 32 bytes), and changes nothing of it.
#[test]
fn the_hash_of_a_program_is_in_the_signature_that_sbsign_makes_of_it() {
    if !have(&[&["openssl", "sbsign", CERTIFICATE], &PROGRAMS[..]].concat()) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for program in PROGRAMS {
        let mut plain = fs::read(program).expect("it was looked for");
        // A signature begins at a multiple of eight bytes: sbsign appends zeros first.
        plain.resize(plain.len().next_multiple_of(8), 0);
        let hash = authenticode(&plain).expect("a program");
        let signed = folder.path().join("signed");
        secure_boot::sign(program.as_ref(), &signed);
        let signed = fs::read(signed).expect("sbsign wrote it");
        let der = [&[4, 32], &hash.0[..]].concat();
        assert!(signed[plain.len()..].windows(der.len()).any(|part| part == der), "{program}: {hash}");
        assert_eq!(authenticode(&signed), Ok(hash), "{program}");
    }
}
