//! Debian mirrors: those that the user names, else those of the host's own apt configuration.

use super::host::{HostApt, load_host_apt};
use super::resolve::{MAIN, SECURITY};
use crate::fetch::Settings;
use crate::source::SourceError;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Addresses of one mirror, without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Of the Debian archive: `http://host/debian`.
    pub main: String,
    /// Of the security archive: `http://host/debian-security`.
    pub security: String,
}

impl Mirror {
    /// Address of an archive as pins name it ([`MAIN`], [`SECURITY`]); `None` for an unknown one.
    pub fn archive(&self, name: &str) -> Option<&str> {
        match name {
            MAIN => Some(&self.main),
            SECURITY => Some(&self.security),
            _ => None,
        }
    }
}

/// The mirrors to try in turn, never empty: `settings.mirrors` (`--mirror`, the environment); without any, `mirrors` of the
/// user's configuration; without any, those of the host.
pub fn load_mirrors(settings: &Settings) -> Result<Vec<Mirror>, SourceError> {
    let mut named = settings.mirrors.clone();
    if named.is_empty()
        && let Some(path) = config_path()
    {
        named = load_user_config(&path)?.mirrors;
    }
    if named.is_empty() {
        return mirrors_of_host(&load_host_apt(Path::new("/"))?);
    }
    let (mut main, mut security) = (Vec::new(), Vec::new());
    for address in named {
        let address = check_address(&address)?;
        if address.ends_with("-security") { security.push(address) } else { main.push(address) }
    }
    if main.is_empty() {
        return Err(bad_mirror(&security[0], "a security archive alone is no mirror"));
    }
    Ok(pair(main, &security))
}

fn mirrors_of_host(host: &HostApt) -> Result<Vec<Mirror>, SourceError> {
    let places = |security: bool| -> Vec<String> {
        host.places.iter().filter(|p| p.security == security).map(|p| p.address.clone()).collect()
    };
    match pair(places(false), &places(true)) {
        found if found.is_empty() => Err(SourceError::BadInput {
            subject: "apt's sources of this host".into(),
            problem: "they name no Debian mirror".into(),
            help: "name one with --mirror URL, in BOOTWRIGHT_MIRROR, or as `mirrors = [\"URL\"]` in ~/.config/bootwright/config.toml".into(),
        }),
        found => Ok(found),
    }
}

/// Gives each main archive its security archive: one on the same host, else the first one named, else the folder beside it.
fn pair(main: Vec<String>, security: &[String]) -> Vec<Mirror> {
    let mut mirrors: Vec<Mirror> = Vec::new();
    for main in main {
        let same_host = security.iter().find(|s| host_of(s) == host_of(&main));
        let security = same_host.or(security.first()).cloned().unwrap_or_else(|| sibling(&main));
        let mirror = Mirror { main, security };
        if !mirrors.contains(&mirror) {
            mirrors.push(mirror);
        }
    }
    mirrors
}

fn host_of(address: &str) -> &str {
    address.split('/').nth(2).unwrap_or_default()
}

/// `.../debian` to `.../debian-security`; a dated folder at the end stays: `.../debian/2026` to `.../debian-security/2026`.
fn sibling(main: &str) -> String {
    match main.split_once("/debian/") {
        Some((before, after)) => format!("{before}/{SECURITY}/{after}"),
        None => format!("{main}-security"),
    }
}

/// A mirror is `http://` or `https://`, a host and a path, free of blanks (it goes into apt's sources).
fn check_address(address: &str) -> Result<String, SourceError> {
    let address = address.trim_end_matches('/');
    let rest = address.strip_prefix("http://").or(address.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && !address.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Ok(address.into())
        }
        _ => Err(bad_mirror(address, "it is no http or https address")),
    }
}

fn bad_mirror(address: &str, problem: &str) -> SourceError {
    SourceError::BadInput {
        subject: address.into(),
        problem: problem.into(),
        help: "a mirror is the address of the Debian archive, `http://HOST/debian`".into(),
    }
}

/// The user's own settings, `~/.config/bootwright/config.toml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// Debian mirrors, tried in turn.
    #[serde(default)]
    pub mirrors: Vec<String>,
}

/// `$XDG_CONFIG_HOME/bootwright/config.toml`, else below `~/.config`; `None` without a home.
fn config_path() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let dir = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(dir.join("bootwright/config.toml"))
}

/// Reads the user's settings; none where there is no file.
pub fn load_user_config(path: &Path) -> Result<UserConfig, SourceError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(UserConfig::default()),
        Err(cause) => return Err(SourceError::Io { action: "read", path: path.into(), cause }),
    };
    toml::from_str(&text).map_err(|e| SourceError::BadInput {
        subject: path.display().to_string(),
        problem: e.to_string().trim_end().into(),
        help: "it may hold `mirrors = [\"http://HOST/debian\"]` and nothing else".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::deb::host::Place;

    fn named(mirrors: &[&str]) -> Result<Vec<Mirror>, SourceError> {
        load_mirrors(&Settings { mirrors: mirrors.iter().map(|m| m.to_string()).collect(), ..Settings::default() })
    }

    fn mirror(main: &str, security: &str) -> Mirror {
        Mirror { main: main.into(), security: security.into() }
    }

    #[test]
    fn named_mirrors_get_their_security_archive() {
        for (given, expected) in [
            (vec!["http://a/debian/"], vec![mirror("http://a/debian", "http://a/debian-security")]),
            (
                vec!["http://a/debian/2026", "https://b/x/deb"],
                vec![
                    mirror("http://a/debian/2026", "http://a/debian-security/2026"),
                    mirror("https://b/x/deb", "https://b/x/deb-security"),
                ],
            ),
            (
                vec!["http://a/debian", "http://b/debian", "http://s/all-security", "http://b/sec-security"],
                vec![
                    mirror("http://a/debian", "http://s/all-security"),
                    mirror("http://b/debian", "http://b/sec-security"),
                ],
            ),
            (vec!["http://a/debian", "http://a/debian"], vec![mirror("http://a/debian", "http://a/debian-security")]),
        ] {
            assert_eq!(named(&given).unwrap(), expected);
        }
    }

    #[test]
    fn bad_mirrors_are_refused() {
        for bad in [
            "ftp://a/debian",
            "a/debian",
            "http://",
            "http://a/b\nSigned-By: x",
            "http://a/deb ian",
            "http://a/debian-security",
        ] {
            assert!(matches!(named(&[bad]), Err(SourceError::BadInput { .. })), "{bad}");
        }
    }

    #[test]
    fn a_host_without_debian_is_told_what_to_do() {
        let host = HostApt { places: vec![Place { address: "http://s/debian-security".into(), security: true }] };
        let error = mirrors_of_host(&host).unwrap_err();
        assert!(error.help().contains("--mirror"), "{}", error.help());
        let both = [("http://m/debian", false), ("http://s/debian-security", true)];
        let places = both.map(|(address, security)| Place { address: address.into(), security }).to_vec();
        let found = mirrors_of_host(&HostApt { places }).unwrap();
        assert_eq!(found, [mirror("http://m/debian", "http://s/debian-security")]);
    }

    #[test]
    fn user_config() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        assert_eq!(load_user_config(&path).unwrap(), UserConfig::default());
        std::fs::write(&path, "mirrors = [\"http://a/debian\"]\n").unwrap();
        assert_eq!(load_user_config(&path).unwrap().mirrors, ["http://a/debian"]);
        for bad in ["mirror = []\n", "mirrors = 1\n", "mirrors = [\n"] {
            std::fs::write(&path, bad).unwrap();
            let error = load_user_config(&path).unwrap_err();
            assert!(error.to_string().contains("config.toml"), "{error}");
        }
    }
}
