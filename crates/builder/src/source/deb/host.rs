//! The host's own apt configuration: its Debian mirrors, and what else it says about downloads. Nothing else of it is used.

use crate::fetch::Via;
use crate::source::SourceError;
use deb822_fast::{Deb822, Paragraph};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Debian mirrors of a host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostApt {
    /// In the order of the files' names, no place twice.
    pub places: Vec<Place>,
}

/// One archive on a mirror.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Without a trailing slash.
    pub address: String,
    /// It is the security archive, else the main one.
    pub security: bool,
}

/// One source of apt: a `deb` line or a stanza, whatever it is for.
#[derive(Debug, Clone, Default, PartialEq)]
struct AptSource {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

/// Code names and aliases of Debian's releases, each also with `-security`, `-updates`, `-backports` or `/updates` behind.
const RELEASES: &[&str] = &[
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
    "sid",
    "stretch",
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
];

impl AptSource {
    /// A source of Debian itself: a suite of a Debian release, area `main`, signed by Debian's keyring where it says by what.
    fn is_debian(&self) -> bool {
        let release = |suite: &String| {
            let name = suite.split(['-', '/']).next().unwrap_or_default();
            let rest = &suite[name.len()..];
            RELEASES.contains(&name)
                && ["", "-security", "-updates", "/updates", "-proposed-updates", "-backports"].contains(&rest)
        };
        let signer = self.signed_by.as_deref();
        self.suites.iter().all(release)
            && self.components.iter().any(|c| c == "main")
            && signer.is_none_or(|by| by.contains("debian-archive-"))
    }

    fn is_security(&self) -> bool {
        self.suites.iter().all(|s| s.ends_with("-security") || s.ends_with("/updates"))
    }
}

/// Reads `etc/apt/sources.list` and `etc/apt/sources.list.d/*.{list,sources}` below `root`. A host without apt has none.
pub fn load_host_apt(root: &Path) -> Result<HostApt, SourceError> {
    let etc = root.join("etc/apt");
    let mut files = vec![etc.join("sources.list")];
    let dir = etc.join("sources.list.d");
    match std::fs::read_dir(&dir) {
        Ok(found) => files.extend(found.filter_map(Result::ok).map(|entry| entry.path())),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(cause) => return Err(SourceError::Io { action: "read", path: dir, cause }),
    }
    files[1..].sort();
    let mut places: Vec<Place> = Vec::new();
    for file in files {
        let parse = match file.extension().and_then(|e| e.to_str()) {
            Some("list") => parse_list,
            Some("sources") => parse_sources,
            _ => continue,
        };
        let Some(text) = read_if_there(&file)? else { continue };
        for source in parse(&text).into_iter().filter(AptSource::is_debian) {
            let security = source.is_security();
            for address in addresses_of(&source, root)? {
                let place = Place { address, security };
                if !places.contains(&place) {
                    places.push(place);
                }
            }
        }
    }
    Ok(HostApt { places })
}

/// The http addresses of a source; `mirror+file:PATH` stands for those in that file (apt-transport-mirror(1)), one a line.
fn addresses_of(source: &AptSource, root: &Path) -> Result<Vec<String>, SourceError> {
    let mut found = Vec::new();
    for uri in &source.uris {
        let listed = match uri.strip_prefix("mirror+file:") {
            Some(path) => read_if_there(&root.join(path.trim_start_matches('/')))?.unwrap_or_default(),
            None => uri.clone(),
        };
        found.extend(
            listed
                .lines()
                .filter_map(|line| line.split_whitespace().next())
                .filter(|uri| uri.starts_with("http://") || uri.starts_with("https://"))
                .map(|uri| uri.trim_end_matches('/').to_string()),
        );
    }
    Ok(found)
}

fn read_if_there(path: &Path) -> Result<Option<String>, SourceError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        // Unreadable for this user: apt would pass over it as well.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(None),
        Err(cause) => Err(SourceError::Io { action: "read", path: path.into(), cause }),
    }
}

/// One-line style (sources.list(5)): `deb [ option=value ... ] uri suite component...`. Lines that are none are apt's to report.
fn parse_list(text: &str) -> Vec<AptSource> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next()?.trim();
            let mut rest = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t']))?.trim_start();
            let mut signed_by = None;
            if let Some(options) = rest.strip_prefix('[') {
                let (options, after) = options.split_once(']')?;
                signed_by = options.split_whitespace().find_map(|o| o.strip_prefix("signed-by=")).map(str::to_string);
                rest = after;
            }
            let mut words = rest.split_whitespace().map(str::to_string);
            let (uris, suites) = (vec![words.next()?], vec![words.next()?]);
            Some(AptSource { uris, suites, components: words.collect(), signed_by })
        })
        .collect()
}

/// deb822 style (sources.list(5)).
fn parse_sources(text: &str) -> Vec<AptSource> {
    // A stanza that cannot be parsed is apt's to report; the others still count.
    text.split("\n\n").filter_map(|stanza| parse_stanza(stanza.parse::<Deb822>().ok()?.iter().next()?)).collect()
}

fn parse_stanza(stanza: &Paragraph) -> Option<AptSource> {
    let field = |name: &str| stanza.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let words = |name: &str| -> Vec<String> {
        field(name).unwrap_or_default().split_whitespace().map(str::to_string).collect()
    };
    let off = ["no", "false", "without", "off", "disable", "0"];
    if field("Enabled").is_some_and(|value| off.contains(&value.trim())) || !words("Types").contains(&"deb".into()) {
        return None;
    }
    Some(AptSource {
        uris: words("URIs"),
        suites: words("Suites"),
        components: words("Components"),
        signed_by: field("Signed-By").map(|value| value.trim().to_string()),
    })
}

/// Options of the host's apt that our own runs of it keep: how to reach mirrors, and whether an index may be old.
const KEPT: &[&str] = &["Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until", "Acquire::Check-Date"];

/// Asks `apt-config dump` for the options that are kept; a host without it has none.
pub fn load_kept_options() -> Result<BTreeMap<String, String>, SourceError> {
    match Command::new("apt-config").arg("dump").env("LC_ALL", "C").output() {
        Ok(output) => Ok(parse_dump(&String::from_utf8_lossy(&output.stdout))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(cause) => Err(SourceError::Io { action: "run", path: PathBuf::from("apt-config"), cause }),
    }
}

/// Lines `Name::Of::Option "value";` (apt-config(8)).
fn parse_dump(text: &str) -> BTreeMap<String, String> {
    let kept = |name: &str| {
        KEPT.iter().any(|k| name.strip_prefix(k).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
    };
    text.lines()
        .filter_map(|line| line.strip_suffix("\";")?.split_once(" \""))
        .filter(|(name, value)| kept(name) && !value.is_empty() && !name.ends_with("::"))
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

/// How apt would reach an address (apt-transport-http(1)): the proxy of its host, else of its scheme, else the environment's.
pub fn via_of<'a>(address: &str, options: &'a BTreeMap<String, String>) -> Via<'a> {
    let Some((scheme, rest)) = address.split_once("://") else { return Via::Environment };
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    let named = options.get(&format!("Acquire::{scheme}::Proxy::{host}"));
    match named.or_else(|| options.get(&format!("Acquire::{scheme}::Proxy"))).map(String::as_str) {
        None => Via::Environment,
        Some("DIRECT") => Via::Direct,
        Some(proxy) => Via::Proxy(proxy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root folder with these files below `etc/apt`.
    fn host(files: &[(&str, &str)]) -> HostApt {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join("etc/apt").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        load_host_apt(root.path()).unwrap()
    }

    fn shown(host: &HostApt) -> Vec<String> {
        host.places.iter().map(|p| format!("{}{}", if p.security { "security " } else { "" }, p.address)).collect()
    }

    #[test]
    fn both_styles_and_mirror_lists() {
        let found = host(&[
            (
                "sources.list",
                "# deb http://no/debian trixie main\ndeb [arch=amd64] http://one/debian/ bookworm main contrib # x\ndeb-src http://src/debian bookworm main\n",
            ),
            (
                "sources.list.d/debian.sources",
                "Types: deb deb-src\n# a comment\nURIs: http://two/debian\nSuites: trixie trixie-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\nTypes: deb\nURIs: http://two/debian-security\nSuites: trixie-security\nComponents: main\n",
            ),
            (
                "sources.list.d/cloud.sources",
                "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: stable\nComponents: main\n",
            ),
            ("mirrors/debian.list", "https://three/debian\tpriority:1\n# no\nhttp://four/debian\n"),
        ]);
        assert_eq!(
            shown(&found),
            [
                "http://one/debian",
                "https://three/debian",
                "http://four/debian",
                "http://two/debian",
                "security http://two/debian-security"
            ]
        );
    }

    #[test]
    fn what_is_not_debian_is_ignored() {
        let found = host(&[
            (
                "sources.list.d/a.list",
                "deb https://x/apt cloud-sdk-bookworm main\ndeb [signed-by=/k/hashicorp.gpg] https://x/h bookworm main\ndeb https://x/docker bookworm stable\ndeb file:/srv/debian bookworm main\ndeb http://x/u noble main\nrubbish\ndeb\n",
            ),
            (
                "sources.list.d/b.sources",
                "Types: deb\nURIs: https://x/node\nSuites: nodistro\nComponents: main\n\nTypes: deb-src\nURIs: http://x/debian\nSuites: trixie\nComponents: main\n\nEnabled: no\nTypes: deb\nURIs: http://y/debian\nSuites: trixie\nComponents: main\n\nno stanza at all\n",
            ),
            ("sources.list.d/c.list.disabled", "deb http://z/debian trixie main\n"),
        ]);
        assert_eq!(shown(&found), [""; 0]);
        assert_eq!(host(&[]), HostApt::default());
    }

    #[test]
    fn the_proxy_of_the_host_counts_before_that_of_the_scheme() {
        let options = [("Acquire::http::Proxy", "http://p:3142"), ("Acquire::http::Proxy::near", "DIRECT")];
        let options = options.map(|(k, v)| (k.to_string(), v.to_string())).into();
        assert_eq!(via_of("http://far/debian", &options), Via::Proxy("http://p:3142"));
        assert_eq!(via_of("http://near:80/debian", &options), Via::Direct);
        assert_eq!(via_of("https://far/debian", &options), Via::Environment);
    }

    #[test]
    fn only_options_about_downloads_are_kept() {
        let dump = "APT \"\";\nAPT::Architecture \"amd64\";\nAcquire::http::Proxy \"http://p:3142\";\nAcquire::https::CAInfo \"/x y\";\n\
            Acquire::Check-Valid-Until \"false\";\nAcquire::httpish::Proxy \"no\";\nAcquire::http::Proxy::h \"DIRECT\";\n\
            Acquire::http \"\";\nDPkg::Post-Invoke:: \"rm -rf /\";\nAcquire::Languages:: \"none\";\n";
        let kept: Vec<_> = parse_dump(dump).into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            kept,
            [
                "Acquire::Check-Valid-Until=false",
                "Acquire::http::Proxy=http://p:3142",
                "Acquire::http::Proxy::h=DIRECT",
                "Acquire::https::CAInfo=/x y",
            ]
        );
    }
}
