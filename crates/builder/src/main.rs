fn main() -> std::process::ExitCode {
    bootwright::cli::run()
}
