//! The option text of mount(2) for NFS (nfs(5), "MOUNT OPTIONS").

use bootwright_base::mount_options::parse_options;
use nix::mount::MsFlags;
use std::net::IpAddr;

/// A protocol version, as in `vers=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NfsVersion {
    pub major: u32,
    text: &'static str,
}

impl NfsVersion {
    /// The type for mount(2).
    pub fn fstype(self) -> &'static str {
        if self.major == 3 { "nfs" } else { "nfs4" }
    }
}

/// How the mount is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountUse {
    /// A root that nobody changes.
    Root,
    /// A root that only this machine changes.
    WritableRoot,
    /// A folder that other machines may change too.
    Volume,
}

/// Seconds for which attributes of a root are cached, about the largest value that the kernel takes. Every path leads
/// through the root, `/run` and `/proc` too: asking the server for its attributes would stop PID1 while the server is
/// away.
const BELIEVED: &str = "1000000";

/// The versions that are tried by default, then those that must be named. Version 4.2 is not tried: a root needs
/// nothing of it, and with its READ_PLUS (CONFIG_NFS_V4_2_READ_PLUS) nfs-ganesha 4.3 returns zeros for data.
const VERSIONS: &[NfsVersion] = &[
    NfsVersion { major: 4, text: "4.1" },
    NfsVersion { major: 4, text: "4.0" },
    NfsVersion { major: 3, text: "3" },
    NfsVersion { major: 4, text: "4.2" },
];
const TRIED: usize = 3;
/// Number of versions that `vers=4` stands for.
const FOURS: usize = 2;

/// The versions to try: the one that the options name (`vers=`, `nfsvers=`, `v3`), else the default ones.
///
/// # Errors
/// The option that cannot be parsed.
pub fn versions(options: &[String]) -> Result<&'static [NfsVersion], String> {
    let Some((option, value)) = words(options).filter_map(|o| Some((o, version_of(o)?))).last() else {
        return Ok(VERSIONS.get(..TRIED).unwrap_or_default());
    };
    if value == "4" {
        return Ok(VERSIONS.get(..FOURS).unwrap_or_default());
    }
    let found = VERSIONS.iter().position(|version| version.text == value);
    found.and_then(|at| VERSIONS.get(at..=at)).ok_or_else(|| option.into())
}

/// The value of an option that names a version.
fn version_of(option: &str) -> Option<&str> {
    if let Some((key, value)) = option.split_once('=') {
        return (key == "vers" || key == "nfsvers").then_some(value);
    }
    option.strip_prefix('v').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The single options; an entry may hold several, divided by commas.
fn words(options: &[String]) -> impl Iterator<Item = &str> {
    options.iter().flat_map(|list| list.split(',')).filter(|word| !word.is_empty())
}

/// The port in the options (`port=`).
pub fn port(options: &[String]) -> Option<u16> {
    words(options).filter_map(|word| word.strip_prefix("port=")?.parse().ok()).last()
}

/// Whether the options ask for a writable mount.
pub fn asks_for_writing(options: &[String]) -> bool {
    words(options).filter(|word| matches!(*word, "rw" | "ro")).last() == Some("rw")
}

/// Flags and text for mount(2). Options that are given replace the defaults.
pub fn mount_data(
    given: &[String],
    server: IpAddr,
    port: Option<u16>,
    version: NfsVersion,
    used: MountUse,
) -> (MsFlags, String) {
    let ours = |word: &&str| version_of(word).is_some() || matches!(*word, "ro" | "rw");
    let others: Vec<String> = words(given).filter(|word| !ours(word)).map(String::from).collect();
    let (flags, others) = parse_options(&others);
    let has = |key: &str| others.split(',').any(|word| word.split('=').next() == Some(key));
    let proto = if server.is_ipv6() { "tcp6" } else { "tcp" };
    let mut data = vec![["vers=", version.text].concat(), ["addr=", &server.to_string()].concat()];
    let mut add = |key: &str, value: &str| {
        if !has(key) {
            data.push(if value.is_empty() { key.into() } else { [key, "=", value].concat() });
        }
    };
    add("proto", proto);
    if !has("soft") {
        add("hard", "");
    }
    if version.major == 3 {
        add("mountproto", proto);
        // Locks on the server would need statd and upcalls of lockd. Nobody else writes a node's own files.
        if !has("lock") {
            add("nolock", "");
        }
    }
    if let Some(port) = port {
        add("port", &port.to_string());
    }
    let attributes = ["actimeo", "noac", "acregmin", "acregmax", "acdirmin", "acdirmax"];
    if used != MountUse::Volume && !attributes.iter().any(|key| has(key)) {
        add("actimeo", BELIEVED);
        add("nocto", "");
    }
    if !others.is_empty() {
        data.push(others);
    }
    let read_only = if used == MountUse::Root { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    (flags.set | read_only, data.join(","))
}

/// `SERVER:/path`, with an IPv6 address in brackets.
pub fn mount_source(server: IpAddr, path: &str) -> String {
    let server = server.to_string();
    if server.contains(':') { ["[", &server, "]:", path].concat() } else { [&server, ":", path].concat() }
}

/// Replaces `%s` by the node's name if it was given one, else by its address (`root_nfs_data` of Linux's
/// fs/nfs/nfsroot.c, `nfs_to_var` of dracut's nfs-lib.sh).
pub fn export_path(path: &str, name: Option<&str>, own: Option<IpAddr>) -> String {
    match name.map(String::from).or_else(|| Some(own?.to_string())) {
        Some(node) => path.replace("%s", &node),
        None => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 2, 2));

    fn texts(options: &[&str]) -> Result<Vec<&'static str>, String> {
        let options: Vec<String> = options.iter().map(|o| o.to_string()).collect();
        Ok(versions(&options)?.iter().map(|v| v.text).collect())
    }

    #[test]
    fn versions_are_those_that_are_named() {
        assert_eq!(texts(&[]).unwrap(), ["4.1", "4.0", "3"]);
        assert_eq!(texts(&["rw", "vers=4.1"]).unwrap(), ["4.1"]);
        assert_eq!(texts(&["nolock,v3"]).unwrap(), ["3"]);
        assert_eq!(texts(&["nfsvers=4"]).unwrap(), ["4.1", "4.0"]);
        assert_eq!(texts(&["vers=4.2"]).unwrap(), ["4.2"]);
        assert_eq!(texts(&["vers=3", "vers=4.0"]).unwrap(), ["4.0"]);
        assert_eq!(texts(&["vers=2"]), Err("vers=2".into()));
        assert_eq!(texts(&["v5"]), Err("v5".into()));
    }

    fn data(options: &[&str], server: IpAddr, port: Option<u16>, used: MountUse) -> (MsFlags, String) {
        let options: Vec<String> = options.iter().map(|o| o.to_string()).collect();
        mount_data(&options, server, port, versions(&options).unwrap()[0], used)
    }

    #[test]
    fn defaults_give_way_to_what_is_given() {
        let (flags, text) = data(&[], V4, None, MountUse::Volume);
        assert_eq!((flags, &text[..]), (MsFlags::empty(), "vers=4.1,addr=10.0.2.2,proto=tcp,hard"));
        let (_, text) = data(&["vers=3"], V4, Some(12049), MountUse::Volume);
        assert_eq!(text, "vers=3,addr=10.0.2.2,proto=tcp,hard,mountproto=tcp,nolock,port=12049");
        let (_, text) = data(&["v3,soft,lock", "mountport=9", "proto=udp"], V4, None, MountUse::Volume);
        assert_eq!(text, "vers=3,addr=10.0.2.2,mountproto=tcp,soft,lock,mountport=9,proto=udp");
        let (flags, text) = data(&["noatime", "rsize=65536"], "fd00::2".parse().unwrap(), None, MountUse::Volume);
        assert_eq!(flags, MsFlags::MS_NOATIME);
        assert_eq!(text, "vers=4.1,addr=fd00::2,proto=tcp6,hard,rsize=65536");
    }

    #[test]
    fn a_roots_attributes_are_believed() {
        let (flags, text) = data(&[], V4, None, MountUse::Root);
        let expected = "vers=4.1,addr=10.0.2.2,proto=tcp,hard,actimeo=1000000,nocto";
        assert_eq!((flags, &text[..]), (MsFlags::MS_RDONLY, expected));
        assert_eq!(data(&["rw"], V4, None, MountUse::WritableRoot), (MsFlags::empty(), expected.into()));
        let (_, text) = data(&["acdirmax=5"], V4, None, MountUse::Root);
        assert_eq!(text, "vers=4.1,addr=10.0.2.2,proto=tcp,hard,acdirmax=5");
    }

    #[test]
    fn sources_paths_and_writing() {
        assert_eq!(port(&["vers=3".into(), "ro,port=12049,hard".into()]), Some(12049));
        assert_eq!(port(&["mountport=9".into(), "port=x".into()]), None);
        assert_eq!(mount_source(V4, "/a b"), "10.0.2.2:/a b");
        assert_eq!(mount_source("fd00::2".parse().unwrap(), "/x"), "[fd00::2]:/x");
        assert_eq!(export_path("/r/%s/x", None, Some(V4)), "/r/10.0.2.2/x");
        assert_eq!(export_path("/r/%s/x", Some("n1"), Some(V4)), "/r/n1/x");
        assert_eq!(export_path("/r/%s/x", None, None), "/r/%s/x");
        let asks = |text: &str| asks_for_writing(&[text.to_string()]);
        assert_eq!((asks("rw"), asks("ro,rw"), asks("rw,ro"), asks("rwx")), (true, true, false, false));
    }

    proptest! {
        #[test]
        fn no_option_panics(words in proptest::collection::vec("[a-z0-9=.,\"]{0,12}", 0..4)) {
            if let Ok(versions) = versions(&words) {
                for version in versions {
                    let (_, text) = mount_data(&words, V4, None, *version, MountUse::Root);
                    prop_assert!(text.starts_with("vers="));
                }
            }
        }
    }
}
