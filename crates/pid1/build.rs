//! Links PID1 without tables for unwinding: a panic ends in one instruction, and nothing prints a stack (`src/base/panic.rs`).

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=no-unwind-tables.ld");
    let is = |key: &str, value: &str| env::var(key).is_ok_and(|v| v == value);
    // Tests unwind, and are never built so.
    if is("CARGO_CFG_TARGET_ENV", "musl") && is("PROFILE", "release") {
        let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/no-unwind-tables.ld");
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
        println!("cargo::rustc-link-arg-bins=-Wl,--no-ld-generated-unwind-info");
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        // No page is kept free between the headers and the code: 4 kB of the file.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,noseparate-code");
        // What is alike in its alignment lies together: fewer bytes between.
        println!("cargo::rustc-link-arg-bins=-Wl,--sort-section=alignment");
        // Tells which binary an address on a console belongs to.
        println!("cargo::rustc-link-arg-bins=-Wl,--build-id=sha1");
    }
}
