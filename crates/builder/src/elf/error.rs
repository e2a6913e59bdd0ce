//! What can go wrong with programs and their libraries.

use super::ElfProblem;
use crate::error::Exit;
use crate::recipe::Origin;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    #[error("`{path}` of component `{component}` ({origin}) cannot run here: {problem}")]
    Unusable { path: String, component: String, origin: Origin, problem: ElfProblem },
    #[error("library `{soname}`, which `{by}` of component `{component}` ({origin}) needs, is in no component")]
    MissingLibrary { soname: String, by: String, component: String, origin: Origin },
    #[error("`{interpreter}`, which runs `{by}` of component `{component}` ({origin}), is not in the image")]
    MissingInterpreter { interpreter: String, by: String, component: String, origin: Origin },
    #[error("`{path}` of component `{component}` ({origin}) needs libraries, which the boot segment does not have")]
    DynamicInBoot { path: String, component: String, origin: Origin },
    #[error("cannot read `{path}`: {}: {cause}", place.display())]
    Read { path: String, place: PathBuf, cause: std::io::Error },
}

impl ElfError {
    /// Exit code 2 where the recipe must change, else 1.
    pub fn exit(&self) -> Exit {
        if matches!(self, Self::Read { .. }) { Exit::Other } else { Exit::Usage }
    }

    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::Unusable { .. } => "exclude it, or take the package for amd64".into(),
            Self::MissingLibrary { soname, component, .. } => {
                let package = package_guess(soname);
                format!(
                    "add the package that holds it (perhaps `{package}`) to component `{component}`, or exclude what needs it"
                )
            }
            Self::MissingInterpreter { interpreter, .. } if interpreter.starts_with("/lib64/") => {
                "add the package `libc6`, and the link `/lib64` to `usr/lib64` that the recipe `base` has".into()
            }
            Self::MissingInterpreter { interpreter, .. } => {
                format!("add a component with `{interpreter}`, or exclude the program")
            }
            Self::DynamicInBoot { .. } => "take a static program, or put it into the root segment".into(),
            Self::Read { .. } => "check the cache folder (--cache); delete it when it is damaged".into(),
        }
    }
}

/// Debian's rule for the package of a library (Debian policy 8.1): soname in lower case without `.so`, with a dash where
/// the name ends in a digit.
fn package_guess(soname: &str) -> String {
    let name = soname.rsplit('/').next().unwrap_or(soname).to_ascii_lowercase().replace('_', "-");
    match name.split_once(".so") {
        Some((stem, version)) => {
            let version = version.trim_start_matches('.');
            let dash = stem.ends_with(|c: char| c.is_ascii_digit()) && !version.is_empty();
            format!("{stem}{}{version}", if dash { "-" } else { "" })
        }
        None => name,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn package_names() {
        for (soname, package) in [
            ("libseccomp.so.2", "libseccomp2"),
            ("libpcre2-8.so.0", "libpcre2-8-0"),
            ("libnss_dns.so.2", "libnss-dns2"),
        ] {
            assert_eq!(super::package_guess(soname), package);
        }
    }
}
