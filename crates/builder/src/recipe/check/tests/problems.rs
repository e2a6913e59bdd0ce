//! One edit of a good recipe, one problem at its line.

use super::{GOOD, problems};

/// Problems of `GOOD` with one edit, as `line: message`.
fn problems_of(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    problems(&GOOD.replacen(from, to, 1))
}

#[test]
fn each_problem_is_found_where_it_is() {
    let cases: &[(&str, &str, &str)] = &[
        ("[zram]", "[zrma]", "72: unknown key `zrma`"),
        ("load = [", "loads = [", "15: unknown key `loads`"),
        ("default = 80", "default = \"80\"", "8: variable `port` is an integer, but its default is a string"),
        ("type = \"int\", ", "", "8: missing key `type`"),
        (
            "default = \"trixie\"",
            "default = \"trixy\", choices = [\"bookworm\", \"trixie\"]",
            "7: `trixy` is no value of this key",
        ),
        ("default = 80", "default = 80, choices = [\"80\"]", "8: `choices` is not used: only a text has choices"),
        ("debug = {", "ip = {", "6: `ip` is filled in on the node"),
        ("shutdown_timeout_s = 30", "shutdown_timeout_s = -1", "3: -1 is out of range: expected 0 to 4294967295"),
        (
            "shutdown_timeout_s = 30",
            "shutdown_timeout_s = 1979-05-27",
            "3: wrong type: expected an integer, found a date",
        ),
        ("cmdline = [\"console=ttyS0\"]", "cmdline = \"x\"", "12: wrong type: expected a list, found a string"),
        ("\"declared\"", "\"all\"", "16: `all` is no value of this key"),
        ("i915/**", "i915/[", "17: bad glob `i915/[`"),
        ("\"@net\"", "\"@nett\"", "13: module set `nett` does not exist"),
        ("more = [\"e1000e\"]", "more = [\"@net\"]", "20: module sets hold each other in a circle: net -> more -> net"),
        ("\"button\"", "\"but ton\"", "15: `but ton` is not a module name"),
        ("component = \"kernel\"", "component = \"kernl\"", "11: component `kernl` does not exist"),
        ("component = \"kernel\"", "", "10: missing key `component`"),
        ("suite = \"${suite}\", ", "", "24: missing key `suite`"),
        ("${suite}\", package", "${suit}\", package", "24: variable `suit` does not exist"),
        ("\"linux-image-amd64\"", "\"Linux Image\"", "24: `Linux Image` is not a Debian package name"),
        ("deb = {", "go = {", "24: unknown key `suite`"),
        ("paths = [\"boot/vmlinuz-*\"]", "oci = { image = \"x/y\" }", "22: component `kernel` has `deb`, `oci` of"),
        ("name = \"tool\"", "name = \"kernel\"", "28: component `kernel` is written twice: first at bad.toml:22"),
        ("name = \"tool\"", "name = \"recipe\"", "28: `recipe` is not free as a component's name"),
        ("name = \"tool\"", "nam = \"tool\"", "28: unknown key `nam`"),
        ("when = \"debug\"", "when = \"debgu\"", "29: variable of `when` `debgu` does not exist"),
        ("when = \"debug\"", "when = \"suite\"", "29: bad condition `suite`"),
        ("000000\"", "00000\"", "30: `000"),
        (", size = 7", "", "30: missing key `size`"),
        ("size = 7", "size = \"${suite}\"", "30: `trixie` is not a number of bytes"),
        ("size = 7", "size = true", "30: wrong type: expected an integer or a string, found a boolean"),
        ("size = 7", "size = 7, strip = 1", "30: `strip` is not used: the file is not unpacked"),
        ("https://", "ftp://", "30: `ftp://example.org/v80/tool` is not an http or https URL"),
        ("paths = []", "join = \"all\"\npaths = []", "33: `[]` is not the files to join"),
        ("paths = []", "join = \"../all\"", "32: bad path `../all`: a path with `..`"),
        ("\"/usr/bin/tool\"", "\"../tool\"", "31: bad path `../tool`: a path with `..`"),
        ("dir = \"etc\"\n", "", "34: missing key `dir`"),
        ("path = \"/etc/motd\"", "path = \"/\"", "39: `/` is not the path of a file in the image"),
        (
            "path = \"usr/bin/mount\"",
            "path = \"etc/motd\"",
            "42: file `etc/motd` is written twice: first at bad.toml:38",
        ),
        ("path = \"/tmp\"\ndir = true", "path = \"/tmp\"\ndir = false", "45: file `/tmp` has none of"),
        ("link = \"/run\"", "link = \"/run\"\ncontent = \"\"", "49: file `/var/run` has `content`, `link` of"),
        ("\"1777\"", "\"1787\"", "48: `1787` is not octal permissions"),
        ("$${literal}", "${literal", "40: `${literal"),
        ("\"/usr/bin/web\"", "\"web\"", "55: `web` is not an absolute path"),
        ("addresses = [\"192.0.2.7/24\"]", "addresses = [\"192.0.2.7\"]", "66: `192.0.2.7` is not an address with"),
        ("dns = [\"2001:db8::1\"]", "bond = [{ name = \"bond0\", interfaces = [], mode = \"fast\" }]", "67: `fast` is"),
        ("dns = [\"2001:db8::1\"]", "vlan = [{ id = 4095, interface = \"eth0\" }]", "67: 4095 is out of range"),
        ("dns = [\"2001:db8::1\"]", "vlan = [{ id = 5, interface = \"02:00:00:00:00:01\" }]", "67: missing key `name`"),
        ("dns = [\"2001:db8::1\"]", "interface = \"a/b\"", "67: `a/b` is not the name of a network interface"),
        (
            "dns = [\"2001:db8::1\"]",
            "extra = [{ interface = \"eth1\", addresses = [] }]",
            "67: `addresses` is not used",
        ),
        (
            "[hostname]",
            "[report]\nurl = \"https://:8080/x\"\n[hostname]",
            "69: `https://:8080/x` is not the address of an HTTP server",
        ),
        ("[hostname]", "[report]\n[hostname]", "68: missing key `url`"),
        ("[hostname]", "[time]\nservers = [\"a b\"]\n[hostname]", "69: `a b` is not an address or a host name"),
        ("\"network\", \"shell\"", "\"netwrok\"", "56: service `netwrok` does not exist"),
        (
            "exec = [\"/bin/sh\"]",
            "exec = [\"/bin/sh\"]\nafter = [\"web\"]",
            "56: services wait for each other in a circle: web -> shell -> web",
        ),
        ("exec = [\"/bin/sh\"]", "exec = []", "58: missing key `exec`"),
        ("{ http = \"http://127.0.0.1:${port}/\" }", "{}", "57: `ready` of service `web` has none of"),
        ("ready = \"exited\"", "ready = \"done\"", "62: `done` is no value of this key"),
        ("ready = \"exited\"", "stop_cgroups = [\"../x\"]", "62: bad path `../x`"),
        ("ready = \"exited\"", "cpu_weight = 0", "62: 0 is out of range: expected 1 to 10000"),
        ("ready = \"exited\"", "tasks_max = -1", "62: -1 is out of range: expected 0 to 4294967295"),
        ("ready = \"exited\"", "stop_signal = \"SIGTERM\"", "62: `SIGTERM` is no value of this key"),
        ("192.0.2.7/24", "192.0.2.7", "66: `192.0.2.7` is not an address with its prefix length"),
        ("mode = \"static\"", "mode = \"dhcp\"", "66: `addresses` is not used"),
        ("addresses = [\"192.0.2.7/24\"]\n", "", "64: missing key `addresses`"),
        ("2001:db8::1", "dns.example", "67: `dns.example` is not an IP address"),
        ("\"node-1\"", "\"node_1\"", "69: `node_1` is not a host name"),
        ("\"net.ipv4.ip_forward\" = 1", "forward = 1", "71: `forward` is not the dotted name"),
        ("size_mib = 256", "swappiness = 300", "73: 300 is out of range: expected 0 to 200"),
        ("verify = \"shell\"", "verfy = \"shell\"", "76: phase `verfy` does not exist"),
        ("{ retry = 3, then = { reboot_after_s = 10 } }", "{ then = \"shell\" }", "75: the policy has none of `retry`"),
        ("level = 9", "level = 90", "79: 90 is out of range: expected 1 to 22"),
        ("level = 9", "block_kib = 100", "79: `100` is not a power of two"),
        ("level = 9", "network_block_kib = 3", "79: `3` is not a power of two"),
        ("\"60%\"", "\"60 %\"", "82: `60 %` is not a size of a tmpfs"),
        ("\"xz:6+x86\"", "\"xz:10\"", "84: `xz:10` is not a compression"),
        ("tool = 1.5", "tol = 1.5", "89: component `tol` does not exist"),
        (
            "boot_files_mb = 40",
            "boot_files_mb = nan",
            "87: wrong type: expected a number, found a float that is no number",
        ),
        ("boot_files_mb = 40", "boot_files_mb = 0", "87: `0` is not a size in MB above 0"),
        ("\"ssh-answers\"", "\"ssh\"", "91: `ssh` is no value of this key"),
        ("[kernel]", "[kernel", "10: not TOML:"),
    ];
    check_all(cases);
}

#[test]
fn what_state_cannot_use_is_refused_with_the_reason() {
    const KUBELET: &str = "volume = \"nbd://10.0.0.1/state-${mac}\", format = \"ext4\", folder = \"kubelet\"";
    const CONTAINERD: &str = "tmpfs = \"60%\", mode = \"0711\"";
    let snapshots = "94: `/var/lib/containerd` cannot be on NFS: containerd's snapshots are overlays";
    let cases: &[(&str, &str, &str)] = &[
        ("\"/var/log\"", "\"var/log\"", "96: `var/log` is not the absolute path of a folder"),
        ("\"/var/log\"", "\"/\"", "96: `/` is not the path of a file"),
        ("\"/var/log\"", "\"/run/x\"", "96: `/run/x` is not the absolute path of a folder that can live elsewhere"),
        ("\"/var/log\"", "\"/etc/\"", "96: state of `/etc` is written twice: first at bad.toml:95"),
        (CONTAINERD, "mode = \"0711\"", "94: state of `/var/lib/containerd` has none of `tmpfs`, `volume`"),
        (
            CONTAINERD,
            "tmpfs = \"1%\", volume = \"nbd://h/x\"",
            "94: state of `/var/lib/containerd` has `tmpfs`, `volume`",
        ),
        (CONTAINERD, "tmpfs = \"much\"", "94: `much` is not a size of a tmpfs"),
        (CONTAINERD, "tmpfs = \"1%\", mode = \"9\"", "94: `9` is not octal permissions"),
        (CONTAINERD, "tmpfs = \"1%\", format = \"ext4\"", "94: `format` is not used: a tmpfs is empty"),
        (CONTAINERD, "tmpfs = \"1%\", overlay = true", "94: `/var/lib/containerd` cannot be an overlay: containerd's"),
        (CONTAINERD, "volume = \"nfs://h/x\"", snapshots),
        ("\"/var/log\" = {", "\"/var/lib\" = {", "96: `/var/lib` cannot be on NFS: containerd's snapshots"),
        ("nfs:///logs", "http://h/logs", "96: `http://h/logs/${hostname}?vers=3` is not the URL of a volume"),
        ("nfs:///logs/${hostname}", "nfs://h", "96: `nfs://h?vers=3` is not the URL of a volume"),
        ("nfs:///logs/${hostname}", "nfs://h/${host}", "96: variable `host` does not exist"),
        ("?vers=3\"", "\", mode = \"0700\"", "96: `mode` is not used: the volume's own folder"),
        ("?vers=3\"", "\", format = \"ext4\"", "96: `format` is not used: the server of an NFS volume"),
        (
            "?vers=3\"",
            "\", overlay = true",
            "96: `/var/log` cannot be an overlay on NFS: the kernel takes no upper layer",
        ),
        (KUBELET, "volume = \"nbd://h/x\", format = \"fat\"", "93: `fat` is no value of this key"),
        (KUBELET, "volume = \"nbd://h/x\", folder = \"../a\"", "93: bad path `../a`: a path with `..`"),
        (
            KUBELET,
            "volume = \"nbd://10.0.0.1/state-${mac}\"",
            "93: `/var/lib/kubelet` cannot be on that volume: `format`",
        ),
        (
            "folder = \"kubelet\"",
            "folder = \"etc/x\"",
            "93: `/var/lib/kubelet` cannot be on that volume: another folder",
        ),
        (
            KUBELET,
            "tmpfs = \"1%\", overlay = true }\n\"/var/lib/kubelet/x\" = { tmpfs = \"1%\", overlay = true",
            "94: `/var/lib/kubelet/x` cannot be an overlay: it lies",
        ),
        ("\ntimeout_s = 30", "\ntimeout_s = 1", "98: 1 is out of range: expected 5 to 3600"),
        ("\ntimeout_s = 30", "\ndevice = \"watchdog\"", "98: `watchdog` is not a device"),
    ];
    check_all(cases);
}

/// Each edit leads to its problem, and maybe to others.
#[track_caller]
fn check_all(cases: &[(&str, &str, &str)]) {
    let mut missed = Vec::new();
    for (from, to, expected) in cases {
        let found = problems_of(from, to);
        if !found.iter().any(|p| p.starts_with(expected)) {
            missed.push(format!("{from} -> {to}: wanted {expected}, found {found:#?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn all_problems_are_reported_in_one_run_in_order() {
    let text = GOOD
        .replace("[zram]", "[zrma]")
        .replace("0000\"", "000\"")
        .replace("\"1777\"", "\"1787\"")
        .replace("\"@net\"", "\"@nett\"")
        .replace("\"xz:6+x86\"", "6")
        .replace("@more", "@most");
    let found: Vec<String> =
        problems(&text).iter().map(|p| p.split(['`', ' ']).take(4).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(found.len(), 6, "{found:#?}");
    let lines: Vec<u32> = problems(&text).iter().map(|p| p.split(':').next().unwrap().parse().unwrap()).collect();
    assert!(lines.is_sorted(), "{lines:?}");
}
