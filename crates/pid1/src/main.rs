//! The binary. All code is in the library.

fn main() -> std::process::ExitCode {
    bootwright_init::start(std::env::args_os())
}
