//! Builds PID1 (`crates/pid1`, static musl) in its two shapes and embeds them, each with its names and lines in a file of its
//! own and a list of its crates, so that one binary makes images and explains what their consoles show. What goes into images
//! ends in the table of PID1's panics (`bootwright_contract::panic_sites`).
//!
//! Without the musl target the tool still builds, and says at run time what is missing: `doctor` must work everywhere.

#[path = "build/crates.rs"]
mod crates;
#[path = "build/panic_table.rs"]
mod panic_table;

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-musl";

fn main() {
    for watched in ["build.rs", "build", "pause", "../../Cargo.lock", "../../Cargo.toml", "../../rust-toolchain.toml"] {
        println!("cargo::rerun-if-changed={watched}");
    }
    // All other crates are rooms of PID1 and of what it stands on.
    for entry in std::fs::read_dir("..").expect("this package lies among the others") {
        let name = entry.expect("they can be listed").file_name();
        if name != "builder" && name != "testkit" {
            println!("cargo::rerun-if-changed=../{}", name.display());
        }
    }
    println!("cargo::rerun-if-env-changed=BOOTWRIGHT_PID1");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    if let Err(reason) = build_pause(&out.join("pause")) {
        println!("cargo::warning=the program of sandboxes was not built: {reason}");
        std::fs::write(out.join("pause"), b"").expect("OUT_DIR is writable");
    }
    // The whole of it, and one without network roots for images that have none.
    for (name, features) in [("pid1", &[][..]), ("pid1-ram", &["--no-default-features"])] {
        let embedded = out.join(name);
        let debug = out.join(format!("{name}.debug"));
        let crates = out.join(format!("{name}.crates"));
        let split =
            build_pid1(&out, features).and_then(|built| split(&built, &embedded, &debug).map_err(|e| e.to_string()));
        let listed = split.and_then(|()| crates::list(TARGET, features)).and_then(|text| {
            std::fs::write(&crates, text).map_err(|e| format!("cannot write `{}`: {e}", crates.display()))
        });
        if let Err(reason) = listed {
            println!("cargo::warning=PID1 was not built, images cannot be made with this binary: {reason}");
            for file in [&embedded, &debug, &crates] {
                std::fs::write(file, b"").expect("OUT_DIR is writable");
            }
        }
    }
}

/// Builds `pause/main.rs`: one file without libraries, linked by the linker that comes with the compiler. The toolchain is
/// pinned, and nothing of the machine is in the program: it has the same bytes everywhere.
fn build_pause(program: &Path) -> Result<(), String> {
    let options = ["opt-level=z", "panic=abort", "strip=symbols", "relocation-model=static", "linker=rust-lld"];
    let for_linker = ["link-self-contained=no", "link-arg=-nostdlib", "link-arg=--build-id=none", "link-arg=-n"];
    let status = Command::new(std::env::var_os("RUSTC").expect("cargo sets RUSTC"))
        .args(["--edition", "2024", "--crate-name", "pause", "--target", TARGET])
        .args(options.iter().chain(&for_linker).flat_map(|option| ["-C", option]))
        .arg("-o")
        .args([program, Path::new("pause/main.rs")])
        .status()
        .map_err(|e| format!("cannot run rustc: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("rustc ended with {status}; is the target {TARGET} installed?")) }
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

/// What goes into images, and what names its addresses. Both carry the same build id.
fn split(built: &Path, stripped: &Path, debug: &Path) -> Result<(), Box<dyn Error>> {
    objcopy(&["--strip-all"], built, stripped)?;
    let mut program = std::fs::read(stripped)?;
    program.extend(panic_table::of(built)?);
    std::fs::write(stripped, program)?;
    objcopy(&["--only-keep-debug", "--compress-debug-sections=zlib"], built, debug)
}

/// The objcopy of the pinned toolchain, which needs that toolchain's libraries.
fn objcopy(arguments: &[&str], from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    let rustc =
        Command::new(std::env::var_os("RUSTC").ok_or("cargo sets RUSTC")?).args(["--print", "sysroot"]).output()?;
    let sysroot = PathBuf::from(String::from_utf8(rustc.stdout)?.trim());
    let host = std::env::var("HOST")?;
    let program = sysroot.join("lib/rustlib").join(host).join("bin/rust-objcopy");
    let status = Command::new(&program)
        .env("LD_LIBRARY_PATH", sysroot.join("lib"))
        .args(arguments)
        .args([from, to].map(OsString::from))
        .status()
        .map_err(|e| format!("cannot run `{}`: {e}", program.display()))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", program.display()).into()) }
}
