pub mod check;
pub mod explain;
pub mod inspect;
pub mod schema;

pub fn run() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
