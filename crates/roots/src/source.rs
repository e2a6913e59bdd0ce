//! Sources of a root. Each is a URL, from `bw.root=` or the recipe. `legacy.rs` translates the words of the kernel and
//! of dracut into the same type.
//!
//! ```text
//! ram
//! http://HOST[:PORT]/PATH        https://HOST[:PORT]/PATH
//! nfs://HOST[:PORT]/PATH[?vers=4.2&rw&OPTION=...]
//! iscsi://[USER[:SECRET]@]HOST[:PORT]/[TARGET[/LUN]][?initiator=IQN&user_in=NAME&secret_in=SECRET
//!     &credentials=PATH&portal=HOST[:PORT]]     iscsi:ibft
//! nbd://HOST[:PORT]/EXPORT
//! ```
//!
//! An empty HOST stands for the boot server. In user, secret, target, export and NFS path, `%41` stands for `A`.

mod legacy;
#[cfg(test)]
mod tests;

pub use legacy::{Wanted, parse_root_path, wanted};

use bootwright_contract::hex;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Ports of iSCSI (RFC 7143 section 4.2.3), NBD (IANA) and HTTP.
const ISCSI_PORT: u16 = 3260;
const NBD_PORT: u16 = 10809;
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// What a target's first disk is taken for: tgt has its controller at LUN 0.
const FIRST_LUN: u64 = 1;

/// A place that a root can come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The image in the initramfs.
    Ram,
    Http(Http),
    Nfs(Nfs),
    Iscsi(Iscsi),
    Nbd(Nbd),
}

/// The host of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// The boot server: DHCP's next server (`siaddr`), else the DHCP server (option 54).
    BootServer,
    Address(IpAddr),
    /// A name to be looked up.
    Name(String),
}

/// A root image on a web server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    pub tls: bool,
    pub host: Host,
    pub port: u16,
    /// Path with its leading `/`, and query, as in the request.
    pub path: String,
}

/// The files of a root on an NFS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nfs {
    pub host: Host,
    pub port: Option<u16>,
    /// Absolute path. `%s` stands for the node's name or address (nfsroot.rst).
    pub path: String,
    /// Mount options as they were given: `vers=4.2`, `rw`, `nolock`.
    pub options: Vec<String>,
}

/// A root image on a disk of an iSCSI target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Iscsi {
    /// Everything that is not given here comes from the firmware's boot table (iBFT).
    pub firmware: bool,
    pub host: Host,
    pub port: u16,
    /// Name of the target; `None`: discovery finds it.
    pub target: Option<String>,
    pub lun: u64,
    /// Name of the initiator; `None`: made from the machine's identity.
    pub initiator: Option<String>,
    /// CHAP name and secret with which we prove our identity.
    pub user: Option<String>,
    pub secret: Option<String>,
    /// CHAP name and secret with which the target proves its identity.
    pub user_in: Option<String>,
    pub secret_in: Option<String>,
    /// Path of a file in the image that holds these four values instead.
    pub credentials: Option<String>,
    /// More portals of the target, tried after `host`.
    pub portals: Vec<(Host, u16)>,
}

/// A root image on an NBD server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nbd {
    pub host: Host,
    pub port: u16,
    /// Name of the export. Empty: the server's default.
    pub export: String,
}

impl Source {
    /// The host of the server; `None` for [`Source::Ram`].
    pub fn host(&self) -> Option<&Host> {
        match self {
            Source::Ram => None,
            Source::Http(http) => Some(&http.host),
            Source::Nfs(nfs) => Some(&nfs.host),
            Source::Iscsi(iscsi) => Some(&iscsi.host),
            Source::Nbd(nbd) => Some(&nbd.host),
        }
    }

    /// Where the image of container images lies that belongs to a root of this source: beside the root's file, in an export of the
    /// same name with `-images`, on the next disk of the target. Without a place of its own for it (NFS, the initramfs) the same.
    pub fn of_images(&self) -> Source {
        let mut images = self.clone();
        match &mut images {
            Source::Http(http) => *http = http.with_path(|path| [folder_of(path), "/images.img"].concat()),
            Source::Iscsi(iscsi) => iscsi.lun = iscsi.lun.max(FIRST_LUN) + 1,
            Source::Nbd(nbd) => nbd.export += "-images",
            Source::Ram | Source::Nfs(_) => {}
        }
        images
    }
}

impl Http {
    /// The same with its path changed; the query stays.
    pub fn with_path(&self, change: impl FnOnce(&str) -> String) -> Http {
        let (path, query) = self.path.split_at(self.path.find('?').unwrap_or(self.path.len()));
        Http { path: [&change(path), query].concat(), ..self.clone() }
    }
}

/// What stands before the last `/`.
fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Why a text is no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no source of a root: {reason}")]
pub struct SourceError {
    /// The text without secrets.
    pub found: String,
    pub reason: &'static str,
}

/// Parses a URL of the forms above.
///
/// # Errors
/// [`SourceError`]
pub fn parse_source(text: &str) -> Result<Source, SourceError> {
    parse(text).map_err(|reason| SourceError { found: without_secrets(text), reason })
}

/// Parses a URL that must be `http` or `https`.
///
/// # Errors
/// [`SourceError`]
pub fn parse_http(text: &str) -> Result<Http, SourceError> {
    let reason = match parse(text) {
        Ok(Source::Http(http)) => return Ok(http),
        Ok(_) => "it must begin with http:// or https://",
        Err(reason) => reason,
    };
    Err(SourceError { found: without_secrets(text), reason })
}

fn parse(text: &str) -> Result<Source, &'static str> {
    match text {
        "ram" => return Ok(Source::Ram),
        "iscsi:ibft" => return Ok(Source::Iscsi(Iscsi { firmware: true, ..Iscsi::at(Host::BootServer) })),
        _ => {}
    }
    let (scheme, rest) =
        text.split_once("://").ok_or("it must be `ram` or begin with http, https, nfs, iscsi or nbd and `://`")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    if user.is_some() && scheme != "iscsi" {
        return Err("only iscsi takes a user");
    }
    let (host, port) = parse_place(place)?;
    match scheme {
        "http" | "https" => {
            if path.len() < 2 {
                return Err("the path of the image is missing");
            }
            if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err("the path holds what no URL holds");
            }
            let tls = scheme == "https";
            let port = port.unwrap_or(if tls { HTTPS_PORT } else { HTTP_PORT });
            Ok(Source::Http(Http { tls, host, port, path: path.into() }))
        }
        "nfs" => {
            let (path, query) = split_query(path);
            if path.is_empty() {
                return Err("the path of the export is missing");
            }
            let options = query.map(String::from).collect();
            Ok(Source::Nfs(Nfs { host, port, path: decode(path)?, options }))
        }
        "iscsi" => Ok(Source::Iscsi(parse_iscsi(user, host, port, path)?)),
        "nbd" => {
            let export = decode(path.strip_prefix('/').unwrap_or(path))?;
            Ok(Source::Nbd(Nbd { host, port: port.unwrap_or(NBD_PORT), export }))
        }
        _ => Err("only http, https, nfs, iscsi and nbd are known"),
    }
}

impl Iscsi {
    /// A source whose target has to be discovered.
    fn at(host: Host) -> Iscsi {
        Iscsi {
            firmware: false,
            host,
            port: ISCSI_PORT,
            target: None,
            lun: 0,
            initiator: None,
            user: None,
            secret: None,
            user_in: None,
            secret_in: None,
            credentials: None,
            portals: Vec::new(),
        }
    }
}

fn parse_iscsi(user: Option<&str>, host: Host, port: Option<u16>, path: &str) -> Result<Iscsi, &'static str> {
    let mut iscsi = Iscsi { port: port.unwrap_or(ISCSI_PORT), ..Iscsi::at(host) };
    if let Some(user) = user {
        let (user, secret) = user.split_once(':').unwrap_or((user, ""));
        iscsi.user = Some(decode(user)?);
        iscsi.secret = Some(decode(secret)?).filter(|secret| !secret.is_empty());
    }
    let (path, query) = split_query(path);
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    iscsi.target = parts.next().filter(|target| !target.is_empty()).map(decode).transpose()?;
    if let Some(lun) = parts.next().filter(|lun| !lun.is_empty()) {
        iscsi.lun = lun.parse().map_err(|_| "the LUN is no number")?;
    }
    for word in query {
        let (key, value) = word.split_once('=').ok_or("an option is no KEY=VALUE")?;
        if key == "portal" {
            let (host, port) = parse_place(value)?;
            iscsi.portals.push((host, port.unwrap_or(ISCSI_PORT)));
            continue;
        }
        let value = Some(decode(value)?);
        match key {
            "initiator" => iscsi.initiator = value,
            "credentials" => iscsi.credentials = value,
            "user_in" => iscsi.user_in = value,
            "secret_in" => iscsi.secret_in = value,
            _ => return Err("its options are initiator, user_in, secret_in, credentials and portal"),
        }
    }
    Ok(iscsi)
}

/// Parses `HOST[:PORT]`, with an IPv6 address in brackets.
fn parse_place(place: &str) -> Result<(Host, Option<u16>), &'static str> {
    let (host, rest) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let address: Ipv6Addr = address.parse().map_err(|_| "the IPv6 address is bad")?;
            (Host::Address(address.into()), rest)
        }
        None => {
            let end = place.find(':').unwrap_or(place.len());
            (parse_host(&place[..end])?, &place[end..])
        }
    };
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Ok((host, None)),
        None => Err("the server is bad"),
        Some(port) => Ok((host, Some(parse_port(port)?))),
    }
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    text.parse().ok().filter(|port| *port > 0).ok_or("the port is bad")
}

/// Parses a name or an address. Empty text is the boot server.
fn parse_host(text: &str) -> Result<Host, &'static str> {
    if text.is_empty() {
        return Ok(Host::BootServer);
    }
    if let Ok(address) = text.parse() {
        return Ok(Host::Address(address));
    }
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if text.len() > 253 || !text.bytes().all(good) {
        Err("the server's name is bad")
    } else {
        Ok(Host::Name(text.into()))
    }
}

/// Splits the path from the options behind `?`, which are divided by `&`.
fn split_query(path: &str) -> (&str, impl Iterator<Item = &str>) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    (path, query.split('&').filter(|word| !word.is_empty()))
}

/// Decodes percent-encoding (RFC 3986 section 2.1). The `%s` of an NFS path stays.
fn decode(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        match (byte, after) {
            (b'%', [b's', ..]) => bytes.push(b'%'),
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: &u8| hex::digit(*byte).ok_or("`%` without two hex digits");
                bytes.push(digit(high)? << 4 | digit(low)?);
                rest = after;
            }
            (b'%', _) => return Err("`%` without two hex digits"),
            _ => bytes.push(*byte),
        }
    }
    let clean = |text: &String| !text.contains(['\0', '\n']);
    String::from_utf8(bytes).ok().filter(clean).ok_or("it holds what no name holds")
}

/// The text without what stands between `//` and `@` and behind `?`.
fn without_secrets(text: &str) -> String {
    let text = text.split_once('?').map_or(text, |(before, _)| before);
    match text.rsplit_once('@') {
        Some((before, after)) => {
            let kept = before.find("//").map_or_else(|| before.find(':').map_or(0, |at| at + 1), |at| at + 2);
            [&before[..kept], "...@", after].concat()
        }
        None => text.into(),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::BootServer => Ok(()),
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => address.fmt(f),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// The source as a URL without secrets.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |f: &mut fmt::Formatter<'_>, scheme: &str, host: &Host, port: u16, usual: u16| {
            f.write_str(scheme)?;
            f.write_str("://")?;
            host.fmt(f)?;
            if port == usual { Ok(()) } else { write!(f, ":{port}") }
        };
        match self {
            Source::Ram => f.write_str("ram"),
            Source::Http(Http { tls: false, host, port, path }) => {
                place(f, "http", host, *port, HTTP_PORT)?;
                f.write_str(path)
            }
            Source::Http(Http { tls: true, host, port, path }) => {
                place(f, "https", host, *port, HTTPS_PORT)?;
                f.write_str(path)
            }
            Source::Nfs(Nfs { host, port, path, .. }) => {
                place(f, "nfs", host, port.unwrap_or(0), 0)?;
                f.write_str(path)
            }
            Source::Iscsi(Iscsi { firmware: true, .. }) => f.write_str("iscsi:ibft"),
            Source::Iscsi(Iscsi { host, port, target, lun, .. }) => {
                place(f, "iscsi", host, *port, ISCSI_PORT)?;
                write!(f, "/{}", target.as_deref().unwrap_or(""))?;
                if *lun == 0 { Ok(()) } else { write!(f, "/{lun}") }
            }
            Source::Nbd(Nbd { host, port, export }) => {
                place(f, "nbd", host, *port, NBD_PORT)?;
                f.write_str("/")?;
                f.write_str(export)
            }
        }
    }
}
