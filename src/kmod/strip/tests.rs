use super::*;

#[test]
fn damaged_files_are_refused_and_never_panic() {
    for bytes in [&b""[..], b"\x7fELF", &[0; 64], &[0xff; 200]] {
        assert!(strip_module(bytes).is_err());
    }
}
