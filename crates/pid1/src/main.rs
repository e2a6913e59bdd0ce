//! The program; what it does is the library's.

fn main() -> std::process::ExitCode {
    bootwright_init::start(std::env::args_os())
}
