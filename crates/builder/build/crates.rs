//! The crates that PID1 is compiled from, with their licences: a line each for the SBOM.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Lines `NAME<tab>VERSION<tab>LICENCE<tab>SHA256`: PID1's crates as cargo resolves them for these features, those of the
/// standard library, which is built along with it, and musl. The hash is that of the crate's archive; crates of this
/// repository and of the toolchain have none.
pub fn list(target: &str, features: &[&str]) -> Result<String, String> {
    let mut lines = BTreeSet::new();
    let own = tree(Path::new("../../Cargo.toml"), "bootwright-init", target, features)?;
    let lock = std::fs::read_to_string("../../Cargo.lock").map_err(|e| format!("cannot read Cargo.lock: {e}"))?;
    lines.extend(own.lines().filter_map(|line| describe(line, &lock, "")));
    let rustc = std::env::var_os("RUSTC").ok_or("cargo sets RUSTC")?;
    let ask = |argument: &[&str]| {
        let output = Command::new(&rustc).args(argument).output().map_err(|e| format!("cannot run rustc: {e}"))?;
        String::from_utf8(output.stdout).map_err(|e| format!("rustc's answer is not understood: {e}"))
    };
    let version = ask(&["--version"])?;
    let version = version.split(' ').nth(1).unwrap_or_default();
    let library = Path::new(ask(&["--print", "sysroot"])?.trim()).join("lib/rustlib/src/rust/library");
    let std = tree(&library.join("std/Cargo.toml"), "std", target, &[])?;
    let lock = library.join("Cargo.lock");
    let lock = std::fs::read_to_string(&lock).map_err(|e| format!("cannot read `{}`: {e}", lock.display()))?;
    lines.extend(std.lines().filter_map(|line| describe(line, &lock, version)));
    // The C library of this target is part of the toolchain (rust-lang/rust, src/ci/docker/scripts/musl.sh).
    lines.insert("musl\t\tMIT\t\n".into());
    Ok(lines.into_iter().collect())
}

/// `cargo tree` of one package: what is linked in, no build scripts, no macros.
fn tree(manifest: &Path, package: &str, target: &str, features: &[&str]) -> Result<String, String> {
    let output = Command::new(std::env::var_os("CARGO").ok_or("cargo sets CARGO")?)
        .args(["tree", "--quiet", "--locked", "--package", package, "--target", target, "--manifest-path"])
        .arg(manifest)
        .args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe", "--format", "{p}|{l}"])
        .args(features)
        // The standard library's crates use what only its own compiler may.
        .env("RUSTC_BOOTSTRAP", "1")
        .output()
        .map_err(|e| format!("cannot run cargo: {e}"))?;
    if !output.status.success() {
        return Err(format!("`cargo tree` of {package}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("`cargo tree` of {package}: {e}"))
}

/// Of `NAME vVERSION|LICENCE`, with the folder after the version where it comes from one. `toolchain`: the version of crates that
/// have none of their own.
fn describe(line: &str, lock: &str, toolchain: &str) -> Option<String> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    // They stand in for the standard library's own crates, and are empty.
    if name.starts_with("rustc-std-workspace-") {
        return None;
    }
    let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
    let entry = lock.split("\n[[package]]\n").find(|found| found.starts_with(&entry)).unwrap_or_default();
    let checksum = entry.lines().find_map(|line| line.strip_prefix("checksum = \"")?.strip_suffix('"'));
    let version = if version == "0.0.0" { toolchain } else { version };
    Some(format!("{name}\t{version}\t{licence}\t{}\n", checksum.unwrap_or_default()))
}
