//! Builds PID1 (`crates/pid1`, static musl) in its two shapes and embeds them, so that one binary makes images.
//!
//! Without the musl target the tool still builds, and says at run time what is missing: `doctor` must work everywhere.

use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-musl";

fn main() {
    for watched in [
        "../base",
        "../contract",
        "../netconf",
        "../pid1",
        "../../Cargo.lock",
        "../../Cargo.toml",
        "../../rust-toolchain.toml",
    ] {
        println!("cargo::rerun-if-changed={watched}");
    }
    println!("cargo::rerun-if-env-changed=BOOTWRIGHT_PID1");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // The whole of it, and one without network roots for images that have none.
    for (name, features) in [("pid1", &[][..]), ("pid1-ram", &["--no-default-features"])] {
        let embedded = out.join(name);
        match build_pid1(&out, features) {
            Ok(built) => {
                std::fs::copy(&built, &embedded).expect("OUT_DIR is writable");
            }
            Err(reason) => {
                println!("cargo::warning=PID1 was not built, images cannot be made with this binary: {reason}");
                std::fs::write(&embedded, b"").expect("OUT_DIR is writable");
            }
        }
    }
}

/// `BOOTWRIGHT_PID1` names one that is built already; else this runs a cargo of its own with a target directory of its own: this one's is locked by the cargo that runs us.
fn build_pid1(out: &Path, features: &[&str]) -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("BOOTWRIGHT_PID1") {
        return Ok(PathBuf::from(path));
    }
    // OUT_DIR is <target>/<profile>/build/<package>/out.
    let target_dir = out.ancestors().nth(4).ok_or("OUT_DIR is too short")?.join("pid1");
    let status = Command::new(std::env::var_os("CARGO").expect("cargo sets CARGO"))
        .current_dir("../..")
        .args(["build", "--quiet", "--locked", "--package", "bootwright-init", "--profile", "init"])
        .args(["--config", "crates/pid1/pid1.toml", "--target-dir"])
        .arg(&target_dir)
        .args(features)
        // What this build was given is not meant for that one.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        // Building the standard library is a feature of the compiler that has to be asked for.
        .env("RUSTC_BOOTSTRAP", "1")
        .status()
        .map_err(|e| format!("cannot run cargo: {e}"))?;
    if !status.success() {
        return Err(format!(
            "cargo ended with {status}; are the target {TARGET} and the standard library's sources installed \
             (`rustup target add {TARGET}` and `rustup component add rust-src`)?"
        ));
    }
    Ok(target_dir.join(TARGET).join("init").join("init"))
}
