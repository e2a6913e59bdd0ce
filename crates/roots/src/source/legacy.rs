//! Network roots in the words of the kernel (Documentation/admin-guide/nfs/nfsroot.rst), of dracut (dracut.cmdline(7))
//! and of Debian's nbd-client, and DHCP's root path (option 17; RFC 4173 for iSCSI).

use super::{Host, ISCSI_PORT, Iscsi, NBD_PORT, Nbd, Nfs, Source, SourceError};
use super::{parse_host, parse_place, parse_port, parse_source, without_secrets};
use crate::plan::BUILT_IN;
use bootwright_base::cmdline::Cmdline;

/// The kernel's path when none is given (nfsroot.rst).
const DEFAULT_NFS_PATH: &str = "/tftpboot/%s";

/// A source, or a word that stands for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Source(Box<Source>),
    /// DHCP's root path, which is not known yet.
    RootPath,
    /// A network root in the small PID1, which does not parse it.
    Unread(String),
}

/// The sources of the root in the order in which they are tried. The first of these counts: `bw.root=`; the first of
/// `netroot=`, `nfsroot=`, `nbdroot=`, `rd.iscsi.*` and a `root=` that names a network root; the sources in the image.
/// Empty when there is none.
///
/// # Errors
/// [`SourceError`]
pub fn wanted(cmdline: &Cmdline, baked: &[String]) -> Result<Vec<Wanted>, SourceError> {
    if !BUILT_IN {
        return Ok(unread(cmdline, baked));
    }
    let sources = |texts: &mut dyn Iterator<Item = &str>| {
        texts.map(|text| parse_source(text).map(Wanted::from)).collect::<Result<Vec<_>, _>>()
    };
    let asked = sources(&mut cmdline.values("bw.root"))?;
    if !asked.is_empty() {
        return Ok(asked);
    }
    let asked = from_others(cmdline)?;
    if !asked.is_empty() {
        return Ok(asked);
    }
    sources(&mut baked.iter().map(String::as_str))
}

/// The same in the small PID1: sources other than memory are not parsed, and refused later.
fn unread(cmdline: &Cmdline, baked: &[String]) -> Vec<Wanted> {
    let mut texts: Vec<&str> = cmdline.values("bw.root").collect();
    if texts.is_empty() {
        for key in ["netroot", "nfsroot", "nbdroot", "root"] {
            texts.extend(cmdline.value(key).filter(|text| key != "root" || is_network_word(text)));
        }
        if names_iscsi(cmdline) {
            texts.push("rd.iscsi.*");
        }
    }
    if texts.is_empty() {
        texts.extend(baked.iter().map(String::as_str));
    }
    let source = |text: &str| match text {
        "ram" => Source::Ram.into(),
        _ => Wanted::Unread(without_secrets(text)),
    };
    texts.into_iter().map(source).collect()
}

/// Whether [`parse_word`] takes this value of `root=` for a network root.
fn is_network_word(text: &str) -> bool {
    let text = text.strip_prefix("live:").unwrap_or(text);
    let before_colon = text.split_once(':').map(|(word, _)| word);
    text.contains("://")
        || matches!(text, "dhcp" | "dhcp6" | "/dev/nfs" | "nfs" | "nfs4" | "iscsi")
        || matches!(before_colon, Some("iscsi" | "nbd" | "nfs" | "nfs3" | "nfs4"))
}

impl From<Source> for Wanted {
    fn from(source: Source) -> Wanted {
        Wanted::Source(Box::new(source))
    }
}

/// Sources in the words of the kernel and dracut. Several `netroot=` are tried in turn, as in dracut.
fn from_others(cmdline: &Cmdline) -> Result<Vec<Wanted>, SourceError> {
    let mut found = Vec::new();
    for text in cmdline.values("netroot") {
        found.extend(read(text, |text| parse_word(text, 10))?);
    }
    if let (true, Some(text)) = (found.is_empty(), cmdline.value("nfsroot")) {
        found.extend(read(text, |text| parse_nfs(text, None).map(Some))?);
    }
    if let (true, Some(text)) = (found.is_empty(), cmdline.value("nbdroot")) {
        found.extend(read(text, |text| parse_nbdroot(text).map(Some))?);
    }
    if found.is_empty() && names_iscsi(cmdline) {
        found.push(Source::Iscsi(Iscsi::at(Host::BootServer)).into());
    }
    if let (true, Some(text)) = (found.is_empty(), cmdline.value("root")) {
        found.extend(read(text, |text| parse_word(text, 10))?);
        if text == "/dev/nfs" {
            let path = DEFAULT_NFS_PATH.into();
            found.push(Source::Nfs(Nfs { host: Host::BootServer, port: None, path, options: vec![] }).into());
        }
    }
    for wanted in &mut found {
        if let Wanted::Source(source) = wanted
            && let Source::Iscsi(iscsi) = source.as_mut()
        {
            add_iscsi_keys(iscsi, cmdline).map_err(|reason| SourceError { found: "rd.iscsi.*".into(), reason })?;
        }
    }
    Ok(found)
}

/// Parses DHCP's root path: a URL of ours, dracut's forms, RFC 4173's form, or `[SERVER:]/PATH[,OPTIONS]` for NFS.
///
/// # Errors
/// [`SourceError`]
pub fn parse_root_path(text: &str) -> Result<Source, SourceError> {
    match read(text, |text| parse_word(text, 16))? {
        Some(Wanted::Source(source)) => Ok(*source),
        Some(Wanted::RootPath | Wanted::Unread(_)) | None => {
            match read(text, |text| parse_nfs(text, None).map(Some))? {
                Some(Wanted::Source(source)) => Ok(*source),
                _ => Err(SourceError { found: text.into(), reason: "it names no server" }),
            }
        }
    }
}

fn read(
    text: &str,
    parse: impl Fn(&str) -> Result<Option<Wanted>, &'static str>,
) -> Result<Option<Wanted>, SourceError> {
    parse(text).map_err(|reason| SourceError { found: without_secrets(text), reason })
}

/// Parses a value of `root=` or `netroot=`. `None` when it is no network root (`/dev/sda1`, `UUID=...`). `lun_radix`:
/// RFC 4173 writes the LUN in hex, dracut in decimal.
fn parse_word(text: &str, lun_radix: u32) -> Result<Option<Wanted>, &'static str> {
    let text = text.strip_prefix("live:").unwrap_or(text);
    if text.contains("://") {
        return super::parse(text).map(|source| Some(source.into()));
    }
    if matches!(text, "dhcp" | "dhcp6" | "/dev/nfs" | "nfs" | "nfs4") {
        return Ok(Some(Wanted::RootPath));
    }
    if text == "iscsi" {
        return Ok(Some(Source::Iscsi(Iscsi::at(Host::BootServer)).into()));
    }
    match text.split_once(':') {
        Some(("iscsi", rest)) => parse_iscsi(rest, lun_radix).map(Some),
        Some(("nbd", rest)) => parse_nbd(rest).map(Some),
        Some(("nfs", rest)) => parse_nfs(rest, None).map(Some),
        Some(("nfs3", rest)) => parse_nfs(rest, Some("vers=3")).map(Some),
        Some(("nfs4", rest)) => parse_nfs(rest, Some("vers=4")).map(Some),
        _ => Ok(None),
    }
}

/// Parses `[SERVER:]/PATH[,OPTIONS]`, where dracut also has `:` before the options.
fn parse_nfs(text: &str, version: Option<&str>) -> Result<Wanted, &'static str> {
    let at = if text.starts_with('/') { 0 } else { text.find(":/").map(|at| at + 1).ok_or("there is no path")? };
    let (server, path) = text.split_at(at);
    let (host, port) = parse_place(server.strip_suffix(':').unwrap_or(server))?;
    let (path, options) = path.split_at(path.find([',', ':']).unwrap_or(path.len()));
    let options = options.get(1..).unwrap_or("").split(',').filter(|option| !option.is_empty());
    let options = version.into_iter().chain(options).map(String::from).collect();
    Ok(Source::Nfs(Nfs { host, port, path: path.into(), options }).into())
}

/// Parses dracut's `SERVER:PORT|EXPORT[:FSTYPE[:OPTIONS...]]`. What follows the export is known from the image.
fn parse_nbd(text: &str) -> Result<Wanted, &'static str> {
    let (host, rest) = take_host(text)?;
    let export = rest.split(':').next().unwrap_or("");
    nbd(host, export)
}

/// Parses nbd-client's `SERVER,PORT|EXPORT[,DEVICE]` and `SERVER:PORT|EXPORT`, and `dhcp`.
fn parse_nbdroot(text: &str) -> Result<Wanted, &'static str> {
    if text == "dhcp" {
        return Ok(Wanted::RootPath);
    }
    match text.split_once(',') {
        Some((server, rest)) => {
            let (host, _) = parse_place(server)?;
            nbd(host, rest.split(',').next().unwrap_or(""))
        }
        None => parse_nbd(text),
    }
}

fn nbd(host: Host, export: &str) -> Result<Wanted, &'static str> {
    let (port, export) = match export.parse() {
        Ok(port) => (port, ""),
        Err(_) => (NBD_PORT, export),
    };
    Ok(Source::Nbd(Nbd { host, port, export: export.into() }).into())
}

/// Splits `SERVER:REST`, with an IPv6 address in brackets.
fn take_host(text: &str) -> Result<(Host, &str), &'static str> {
    let end = match text.strip_prefix('[') {
        Some(rest) => rest.find(']').ok_or("the IPv6 address is bad")? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, _) = parse_place(text.get(..end).ok_or("the IPv6 address is bad")?)?;
    let rest = &text[end..];
    Ok((host, rest.strip_prefix(':').unwrap_or(rest)))
}

/// Parses dracut's `[USER:SECRET[:USER_IN:SECRET_IN]@][SERVER]:[PROTOCOL]:[PORT][:[INTERFACE]:[DEVICE]]:[LUN]:TARGET`,
/// which is RFC 4173's form when user and interface are left out.
fn parse_iscsi(text: &str, lun_radix: u32) -> Result<Wanted, &'static str> {
    let (credentials, text) = match text.rsplit_once('@') {
        Some((credentials, text)) => (Some(credentials), text),
        None => (None, text),
    };
    let (place, target) = match [":iqn.", ":eui.", ":naa."].iter().find_map(|kind| text.find(kind)) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (host, rest) = take_host(place)?;
    let fields: Vec<&str> = rest.split(':').collect();
    let mut iscsi = Iscsi { target: target.map(String::from), ..Iscsi::at(host) };
    if let Some(port) = fields.get(1).filter(|port| !port.is_empty()) {
        iscsi.port = parse_port(port)?;
    }
    let lun = match fields.len() {
        0..=3 => fields.get(2),
        5 => fields.get(4),
        _ => return Err("it is not SERVER:PROTOCOL:PORT:LUN:TARGET"),
    };
    iscsi.lun = parse_lun(lun.copied().unwrap_or(""), lun_radix)?;
    if let Some(credentials) = credentials {
        let mut words = credentials.split(':').map(|word| Some(word.to_string()).filter(|word| !word.is_empty()));
        let mut next = || words.next().flatten();
        (iscsi.user, iscsi.secret, iscsi.user_in, iscsi.secret_in) = (next(), next(), next(), next());
    }
    Ok(Source::Iscsi(iscsi).into())
}

/// Parses a LUN (RFC 4173 section 5): hex in groups of four digits with hyphens between them. All levels but the first
/// must be zero.
fn parse_lun(text: &str, radix: u32) -> Result<u64, &'static str> {
    let mut groups =
        text.split('-').map(|group| if group.is_empty() { Ok(0) } else { u64::from_str_radix(group, radix) });
    let bad = "the LUN is no number";
    let first = groups.next().ok_or(bad)?.map_err(|_| bad)?;
    if groups.all(|group| group == Ok(0)) { Ok(first) } else { Err("a LUN of several levels is not supported") }
}

/// Whether `rd.iscsi.*` alone asks for an iSCSI root.
fn names_iscsi(cmdline: &Cmdline) -> bool {
    cmdline.value("rd.iscsi.target.name").is_some() || wants_firmware(cmdline)
}

fn wants_firmware(cmdline: &Cmdline) -> bool {
    cmdline.flag("rd.iscsi.firmware") || cmdline.flag("rd.iscsi.ibft")
}

/// Fills gaps of the source from dracut's `rd.iscsi.*`.
fn add_iscsi_keys(iscsi: &mut Iscsi, cmdline: &Cmdline) -> Result<(), &'static str> {
    let value = |key| cmdline.value(key).filter(|value| !value.is_empty());
    let text = |field: &mut Option<String>, key| {
        if field.is_none() {
            *field = value(key).map(String::from);
        }
    };
    text(&mut iscsi.target, "rd.iscsi.target.name");
    text(&mut iscsi.initiator, "rd.iscsi.initiator");
    text(&mut iscsi.user, "rd.iscsi.username");
    text(&mut iscsi.secret, "rd.iscsi.password");
    text(&mut iscsi.user_in, "rd.iscsi.in.username");
    text(&mut iscsi.secret_in, "rd.iscsi.in.password");
    if let (Host::BootServer, Some(ip)) = (&iscsi.host, value("rd.iscsi.target.ip")) {
        iscsi.host = parse_host(ip.trim_start_matches('[').trim_end_matches(']'))?;
    }
    if let (ISCSI_PORT, Some(port)) = (iscsi.port, value("rd.iscsi.target.port")) {
        iscsi.port = parse_port(port)?;
    }
    iscsi.firmware |= wants_firmware(cmdline);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::cmdline::parse_cmdline;

    #[test]
    fn without_network_roots_what_would_be_one_is_named_as_it_was_given() {
        let unread = |text: &str| Wanted::Unread(text.into());
        for (line, expected) in [
            ("", vec![Source::Ram.into()]),
            ("bw.root=ram root=nfs:/x", vec![Source::Ram.into()]),
            ("bw.root=nbd://u:geheim@h/x", vec![unread("nbd://h/x")]),
            ("netroot=iscsi:@h::::iqn.x", vec![unread("iscsi:...@h::::iqn.x")]),
            ("root=UUID=1 rd.iscsi.firmware", vec![unread("rd.iscsi.*")]),
            ("root=/dev/nfs", vec![unread("/dev/nfs")]),
            ("root=/dev/sda1", vec![Source::Ram.into()]),
        ] {
            let found = unread_of(line);
            if line.contains("geheim") {
                assert!(matches!(&found[..], [Wanted::Unread(text)] if !text.contains("geheim")), "{found:?}");
            } else {
                assert_eq!(found, expected, "{line}");
            }
        }
    }

    fn unread_of(line: &str) -> Vec<Wanted> {
        super::unread(&parse_cmdline(line), &["ram".to_string()])
    }

    #[test]
    fn both_kinds_of_pid1_take_the_same_words_for_network_roots() {
        for text in [
            "dhcp",
            "dhcp6",
            "/dev/nfs",
            "nfs",
            "nfs3",
            "nfs4",
            "nbd",
            "iscsi",
            "nfs:/x",
            "nfs3:h:/x",
            "nfs4:h:/x",
            "nbd:h:1",
            "iscsi:@h::::iqn.x",
            "live:http://h/x",
            "http://h/x",
            "ftp://h/x",
            "/dev/sda1",
            "UUID=1-2",
            "LABEL=nfs",
            "live:/x",
            "a:b",
        ] {
            assert_eq!(is_network_word(text), !matches!(parse_word(text, 10), Ok(None)), "{text}");
        }
    }
}
