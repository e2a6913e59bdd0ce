//! The files from which programs learn about the network: resolv.conf(5), hosts(5), and the lease for commands on the
//! node.

use super::dhcp::options::parse_host_name;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// Ends each line of `/etc/hosts` that was written here; other lines are the image's and stay.
const MARK: &str = "# bootwright";

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{}`: {cause}", path.display())]
pub struct FileError {
    pub path: PathBuf,
    pub cause: io::Error,
}

/// The text of `/etc/resolv.conf`. Without name servers it says so in a comment. Link-local servers get the zone
/// `link`.
pub fn format_resolv_conf(dns: &[IpAddr], search: &[String], link: Option<&str>) -> String {
    let mut text = String::new();
    if dns.is_empty() {
        text.push_str("# no name server is known\n");
    }
    if !search.is_empty() {
        text.push_str("search ");
        text.push_str(&search.join(" "));
        text.push('\n');
    }
    for server in dns {
        text.push_str("nameserver ");
        text.push_str(&server.to_string());
        if let (IpAddr::V6(ip), Some(link)) = (server, link)
            && ip.is_unicast_link_local()
        {
            text.push('%');
            text.push_str(link);
        }
        text.push('\n');
    }
    text
}

/// The text of `/etc/hosts`: the lines of `present` that are not ours, then ours.
pub fn format_hosts(present: &str, address: Option<IpAddr>, hostname: &str) -> String {
    let mut text = String::new();
    let mut localhost = false;
    for line in present.lines().filter(|line| !line.ends_with(MARK)) {
        localhost |= line.split_whitespace().any(|word| word == "localhost");
        text.push_str(line);
        text.push('\n');
    }
    let mut add = |address: &str, names: &str| {
        text.push_str(&[address, " ", names, " ", MARK, "\n"].concat());
    };
    if !localhost {
        add("127.0.0.1", "localhost");
        add("::1", "localhost ip6-localhost");
    }
    // The name must resolve without a network too. Debian uses 127.0.1.1 for that.
    let address = address.unwrap_or(Ipv4Addr::new(127, 0, 1, 1).into()).to_string();
    let short = hostname.split('.').next().unwrap_or(hostname);
    add(&address, &if short == hostname { hostname.to_string() } else { [hostname, " ", short].concat() });
    text
}

/// The node's host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub text: String,
    /// Whether it was given to the node, and not made from the MAC.
    pub given: bool,
}

/// Whether a text can be a node's name: a host or domain name of at most 64 bytes (sethostname(2)).
pub fn is_host_name(text: &str) -> bool {
    parse_host_name(text.as_bytes()).is_some_and(|name| name.len() <= 64)
}

/// Chooses the host name. The first of these counts: `bw.hostname`, `ip=`, DHCP (when the config allows it), the
/// config's own name, `node-` with the end of the MAC.
pub fn choose_hostname(
    from_cmdline: Option<&str>,
    from_ip_param: Option<&str>,
    from_dhcp: Option<&str>,
    config: &bootwright_contract::Hostname,
    mac: Option<&[u8; 6]>,
) -> Name {
    let from_dhcp = from_dhcp.filter(|_| config.dhcp);
    let named = [from_cmdline, from_ip_param, from_dhcp, config.fallback.as_deref()];
    if let Some(name) = named.into_iter().flatten().find(|name| is_host_name(name)) {
        return Name { text: name.trim_end_matches('.').into(), given: true };
    }
    let text = match mac {
        Some(mac) => ["node-", &super::ip_param::format_mac(mac)[9..].replace(':', "")].concat(),
        None => "node".into(),
    };
    Name { text, given: false }
}

/// Writes a temporary file beside `path` and renames it: a reader sees the old or the new file, never a part. Nothing
/// is synced, because `/etc` and `/run` are in memory.
pub fn replace_file(path: &Path, text: &str) -> Result<(), FileError> {
    let failed = |cause| FileError { path: path.into(), cause };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut temp = path.as_os_str().to_owned();
    temp.push(".new");
    let temp = PathBuf::from(temp);
    fs::write(&temp, text).map_err(failed)?;
    fs::rename(&temp, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_contract::Hostname;

    #[test]
    fn resolv_conf() {
        let dns = [IpAddr::from([10, 0, 2, 3])];
        assert_eq!(format_resolv_conf(&dns, &["a.b".into(), "c".into()], None), "search a.b c\nnameserver 10.0.2.3\n");
        let v6: Vec<IpAddr> = ["fe80::1", "2001:db8::1"].map(|text| text.parse().expect("an address")).into();
        assert_eq!(format_resolv_conf(&v6, &[], Some("eth0")), "nameserver fe80::1%eth0\nnameserver 2001:db8::1\n");
        assert_eq!(format_resolv_conf(&[], &[], None), "# no name server is known\n");
    }

    #[test]
    fn hosts_keep_the_images_lines_and_replace_ours() {
        let ip = Some(IpAddr::from([10, 0, 2, 15]));
        let first = format_hosts("10.0.0.1 api\n", None, "n1.lab");
        assert_eq!(
            first,
            "10.0.0.1 api\n127.0.0.1 localhost # bootwright\n::1 localhost ip6-localhost # bootwright\n127.0.1.1 n1.lab n1 # bootwright\n"
        );
        let second = format_hosts(&first, ip, "n2");
        assert_eq!(second.lines().count(), 4);
        assert!(second.ends_with("10.0.2.15 n2 # bootwright\n"), "{second}");
        let own = format_hosts("127.0.0.1 localhost box\n", ip, "n2");
        assert_eq!(own, "127.0.0.1 localhost box\n10.0.2.15 n2 # bootwright\n");
    }

    #[test]
    fn hostnames_in_order() {
        let config = |dhcp, fallback: Option<&str>| Hostname { dhcp, fallback: fallback.map(String::from) };
        let mac = [0x52, 0x54, 0, 0xab, 0xcd, 0x01];
        for (cmdline, param, dhcp, config, expected) in [
            (Some("a"), Some("b"), Some("c"), config(true, Some("d")), "a"),
            (None, Some("b"), Some("c"), config(true, Some("d")), "b"),
            (None, None, Some("c"), config(true, Some("d")), "c"),
            (None, None, Some("c"), config(false, Some("d")), "d"),
            (Some("bad name"), None, None, config(false, None), "node-abcd01"),
        ] {
            let name = choose_hostname(cmdline, param, dhcp, &config, Some(&mac));
            assert_eq!((&name.text[..], name.given), (expected, !expected.starts_with("node-")));
        }
        assert_eq!(choose_hostname(None, None, None, &config(true, None), None).text, "node");
    }
}
