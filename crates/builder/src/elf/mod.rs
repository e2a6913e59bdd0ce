//! The libraries that the image's programs need, found inside the image's own packages, never on the host.

mod closure;
mod error;
mod ld_cache;
mod load;
mod parse;
mod program;
mod script;
#[cfg(test)]
mod tests;

pub use closure::{Interpreter, add_libraries, check_interpreters};
pub use error::ElfError;
pub use parse::{ElfInfo, ElfProblem, parse_elf};
pub use script::{Shebang, ShebangProblem, parse_shebang};
