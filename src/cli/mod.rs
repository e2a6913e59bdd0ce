pub mod check;
pub mod schema;

pub fn run() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
