//! What can go wrong with the kernel and its modules.

use crate::cache::CacheError;
use crate::error::{Exit, Failure};
use crate::module_signing::SignError;
use crate::recipe::Origin;
use crate::tree::TreeError;

#[derive(Debug, thiserror::Error)]
pub enum KmodError {
    #[error("{origin}: kernel component `{component}` does not exist")]
    NoComponent { component: String, origin: Origin },
    #[error("{origin}: component `{component}` holds {found} kernels (`boot/vmlinuz-*`) instead of one")]
    NotOneKernel { component: String, found: usize, origin: Origin },
    #[error("{origin}: kernel {release} has no module `{name}`")]
    NoModule { name: String, release: String, suggestion: Option<String>, origin: Origin },
    #[error("{origin}: no module of kernel {release} has an alias like `{pattern}`")]
    NoAlias { pattern: String, release: String, origin: Origin },
    #[error("module `{by}` depends on `{name}`, which kernel {release} does not have")]
    NoDependency { name: String, by: String, release: String },
    #[error("{origin}: {} in no component: {}", count_files(missing.len()), list(missing))]
    NoFirmware { missing: Vec<(String, String)>, origin: Origin },
    #[error("{origin}: `{pattern}` of `firmware_skip` is no glob: {cause}")]
    BadSkip { pattern: String, origin: Origin, cause: globset::Error },
    #[error("module file `{path}` is damaged: {problem}")]
    BadModule { path: String, problem: String },
    #[error("module file `{path}` cannot be made smaller: {problem}")]
    CannotStrip { path: String, problem: String },
    #[error("cannot read `{path}`: {cause}")]
    Read { path: String, cause: std::io::Error },
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Tree(#[from] TreeError),
}

fn count_files(n: usize) -> String {
    match n {
        1 => "a firmware file that a module declares is".into(),
        n => format!("{n} firmware files that modules declare are"),
    }
}

/// `tg3: tigon/tg3.bin, ...`; a few of them.
fn list(missing: &[(String, String)]) -> String {
    const SHOWN: usize = 8;
    let mut text: Vec<String> =
        missing.iter().take(SHOWN).map(|(module, file)| format!("`{file}` ({module})")).collect();
    if missing.len() > SHOWN {
        text.push(format!("and {} more", missing.len() - SHOWN));
    }
    text.join(", ")
}

impl KmodError {
    /// Exit code 2 where the recipe must change, else 1.
    fn exit(&self) -> Exit {
        match self {
            Self::Tree(cause) => cause.exit(),
            Self::BadModule { .. } | Self::Read { .. } | Self::Sign(_) | Self::Cache(_) => Exit::Other,
            _ => Exit::Usage,
        }
    }

    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::NoComponent { .. } => "name the component that holds the kernel in `[kernel] component`".into(),
            Self::NotOneKernel { .. } => {
                "take one kernel package, and exclude other files named `boot/vmlinuz-*`".into()
            }
            Self::NoModule { suggestion: Some(name), .. } => format!("did you mean `{name}`?"),
            Self::NoModule { .. } => "look for its name in the kernel package; it may be called otherwise".into(),
            Self::NoAlias { .. } => "write it as in /sys/devices/.../modalias, with `*` where any text will do".into(),
            Self::NoDependency { .. } => "do not exclude files of the kernel's modules".into(),
            Self::NoFirmware { .. } => {
                "add a component with the firmware package, or name what this image does without in `firmware_skip`"
                    .into()
            }
            Self::BadSkip { .. } => "write it as a path below lib/firmware, with `*` for parts of a name".into(),
            Self::BadModule { .. } | Self::Read { .. } => {
                "check the cache folder (--cache); delete it when it is damaged".into()
            }
            Self::CannotStrip { .. } => "set `strip = false` in [kernel]".into(),
            Self::Sign(cause) => cause.help(),
            Self::Cache(cause) => cause.help(),
            Self::Tree(cause) => cause.help(),
        }
    }
}

impl From<KmodError> for Failure {
    fn from(e: KmodError) -> Self {
        Self { exit: e.exit(), message: e.to_string(), help: Some(e.help()) }
    }
}
