//! What can go wrong with programs and their libraries.

use super::{ElfProblem, ShebangProblem};
use crate::error::{Exit, Failure};
use crate::recipe::Origin;
use crate::tree::TreeError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    #[error("`{path}` of component `{component}` ({origin}) cannot run here: {problem}")]
    Unusable { path: String, component: String, origin: Origin, problem: ElfProblem },
    #[error("library `{soname}`, which `{by}` of component `{component}` ({origin}) needs, is in no component")]
    MissingLibrary { soname: String, by: String, component: String, origin: Origin, package: Option<String> },
    #[error("`{}`, which runs `{by}` of component `{component}` ({origin}), is not in the image", interpreter.escape_debug())]
    MissingInterpreter { interpreter: String, by: String, component: String, origin: Origin },
    #[error("`{}`, which runs `{by}` of component `{component}` ({origin}), is no file that may be executed", interpreter.escape_debug())]
    NotExecutable { interpreter: String, by: String, component: String, origin: Origin },
    #[error("`{by}` of component `{component}` ({origin}) is run by more than {limit} scripts one after another")]
    TooManyScripts { by: String, component: String, origin: Origin, limit: usize },
    #[error("the kernel does not run `{path}` of component `{component}` ({origin}): {problem}")]
    BadScript { path: String, component: String, origin: Origin, problem: ShebangProblem },
    #[error("`{path}` of component `{component}` ({origin}) needs libraries, which the boot segment does not have")]
    DynamicInBoot { path: String, component: String, origin: Origin },
    #[error("cannot read `{path}`: {}: {cause}", place.display())]
    Read { path: String, place: PathBuf, cause: std::io::Error },
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl ElfError {
    /// Exit code 2 where the recipe must change, else 1.
    fn exit(&self) -> Exit {
        match self {
            Self::Tree(cause) => cause.exit(),
            Self::Read { .. } => Exit::Other,
            _ => Exit::Usage,
        }
    }

    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::Unusable { .. } => "exclude it, or take the package for amd64".into(),
            Self::MissingLibrary { component, package: Some(package), .. } => {
                format!("add the package `{package}`, on which its own package depends, to component `{component}`, or exclude what needs it")
            }
            Self::MissingLibrary { soname, component, .. } => {
                format!(
                    "add the package that holds it (for Debian, `apt-file search {soname}` names it) to component `{component}`, or exclude what needs it"
                )
            }
            Self::MissingInterpreter { interpreter, .. } if interpreter.starts_with("/lib64/") => {
                "add the package `libc6`, and the link `/lib64` to `usr/lib64` that the recipe `base` has".into()
            }
            Self::MissingInterpreter { interpreter, by, .. } if interpreter.ends_with('\r') => {
                format!("its lines end as on Windows, and the kernel takes the carriage return for a part of the name: `sed -i 's/\\r$//'` takes them out of `{by}`")
            }
            Self::MissingInterpreter { interpreter, .. } if interpreter.contains(' ') => {
                "`env` takes all that follows for one name: write `env -S` before several words".into()
            }
            Self::MissingInterpreter { interpreter, .. } if !interpreter.contains('/') => {
                format!("write the whole path after `#!`, which the kernel opens as it is; or add a component with `{interpreter}` when `env` runs it, or exclude the script")
            }
            Self::NotExecutable { .. } => "give it an executable's mode, or exclude what it runs".into(),
            Self::TooManyScripts { .. } => "let the first of them name a program after `#!`, or exclude it".into(),
            Self::BadScript { .. } => "write one path after `#!`, with at most 253 bytes; or take away its mode's x bits where it is no program".into(),
            Self::MissingInterpreter { interpreter, .. } => {
                format!("add a component with `{interpreter}`, or exclude the program")
            }
            Self::DynamicInBoot { .. } => "take a static program, or put it into the root segment".into(),
            Self::Read { .. } => "check the cache folder (--cache); delete it when it is damaged".into(),
            Self::Tree(cause) => cause.help(),
        }
    }
}

impl From<ElfError> for Failure {
    fn from(e: ElfError) -> Self {
        Self { exit: e.exit(), message: e.to_string(), help: Some(e.help()) }
    }
}

/// Which of some packages holds a library, by its name: Debian names one after the library in it, with the version of its
/// soname (`libssl.so.3` is in `libssl3t64`) or without that of a private one (`libsystemd-shared-257.so`).
pub(super) fn package_with(soname: &str, packages: &[String]) -> Option<String> {
    let plain = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let library = plain(&soname.rsplit('/').next().unwrap_or(soname).replace(".so", ""));
    let holds = |package: &&String| library.starts_with(&plain(package.trim_end_matches("t64")));
    let libraries = packages.iter().filter(|package| package.starts_with("lib") && package.len() > "libx".len());
    libraries.filter(holds).max_by_key(|package| package.len()).cloned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn packages_are_named_that_exist() {
        let packages =
            ["libc6", "libseccomp2", "libpcre2-8-0", "libssl3t64", "libsystemd0", "libsystemd-shared", "libx"];
        let packages: Vec<String> = packages.map(String::from).into();
        for (soname, package) in [
            ("libseccomp.so.2", Some("libseccomp2")),
            ("libpcre2-8.so.0", Some("libpcre2-8-0")),
            ("libssl.so.3", Some("libssl3t64")),
            ("libsystemd.so.0", Some("libsystemd0")),
            ("libsystemd-shared-257.so", Some("libsystemd-shared")),
            ("libc.so.6", Some("libc6")),
            ("libxyz.so.1", None),
            ("libother.so.1", None),
        ] {
            assert_eq!(super::package_with(soname, &packages).as_deref(), package, "{soname}");
        }
    }
}
