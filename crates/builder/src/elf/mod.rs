//! The libraries that the image's programs need, found inside the image's own packages, never on the host.

mod closure;
mod error;
mod parse;
#[cfg(test)]
mod tests;

pub use closure::{Interpreter, add_libraries, check_interpreters};
pub use error::ElfError;
pub use parse::{ElfInfo, ElfProblem, parse_elf, parse_shebang};
