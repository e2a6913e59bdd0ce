//! Reads the types of the contract as serde writes them: member names are field names, variants are lower case.

use super::{Decoder, FromJson, Json, Object};
use crate::manifest::{RootManifest, VerityManifest};
use crate::{
    Bond, BootConfig, ExtraInterface, Hostname, Images, Ipv6Mode, Limits, Memory, Modules, Network, NetworkMode,
    Policy, Ready, Restart, Root, RootImage, RootMode, SegmentSums, Service, StateFolder, StatePlace, Time, Tmpfs,
    Trust, Verity, Vlan, Watchdog, Zram,
};
use crate::{record, words};

record!(BootConfig {
    version,
    recipe,
    image_id,
    clock_floor,
    segments,
    modules,
    network,
    time,
    root,
    images,
    state,
    zram,
    sysctls,
    hostname,
    services,
    policies,
    report,
    shutdown_timeout_s,
    watchdog,
    memory,
});
record!(SegmentSums { name, sums_sha256, xxh64 });
record!(Modules { release, early, load, coldplug });
record!(Network { mode, ipv6, interfaces, addresses, gateways, dns, search, mtu, timeout_s, bonds, vlans, extra });
words!(Ipv6Mode { "off" => Off, "auto" => Auto, "dhcp" => Dhcp });
record!(Bond { name, interfaces, options });
record!(Vlan { name, interface, id });
record!(ExtraInterface { interface, mode, ipv6, addresses, mtu });
record!(Time { servers });
words!(NetworkMode { "none" => None, "dhcp" => Dhcp, "static" => Static });
record!(Root {
    mode,
    sources,
    image,
    size,
    sha256,
    verity,
    tree_xxh64,
    tree_sums_sha256,
    lost_reboot_s,
    corrupted_reboot_s,
    trust,
    overlay_size,
    read_ahead_kb,
    tmpfs
});
record!(Images { sha256, size, verity, store });
record!(Verity { blocks, root_hash });
record!(Trust { key, serial, refuse_downgrade });
record!(VerityManifest { kind, version, sha256, verity });
record!(RootManifest { kind, version, recipe, image_id, release, serial, image, size, sha256, tree_sums_sha256 });
words!(RootImage { "squashfs" => Squashfs, "erofs" => Erofs, "cpio" => Cpio });
record!(Tmpfs { path, size, mode, reserve });
record!(StateFolder { path, overlay, place });
record!(Watchdog { device, timeout_s, disarm });
record!(Memory {
    kernel_mib,
    system_mib,
    containerd_mib,
    kubelet_mib,
    shim_mib,
    images_percent,
    max_pods,
    drop_in,
    drop_in_head,
});
record!(Zram { size_mib, algorithm, swappiness });
record!(Hostname { dhcp, fallback });
record!(Service {
    name,
    exec,
    env,
    after,
    ready,
    ready_timeout_s,
    restart,
    backoff_ms,
    stop_signal,
    stop_timeout_s,
    stop_cgroups,
    log_kib,
    console,
    oom_score_adj,
    limits,
});
record!(Limits { memory_min_mib, memory_max_mib, tasks_max, cpu_weight });
words!(Restart { "always" => Always, "failure" => Failure, "never" => Never });

impl FromJson for Ready {
    fn read(json: Json, reader: &mut Decoder) -> Ready {
        let (name, value) = reader.variant(json);
        match &name[..] {
            "started" => no_value(value, Ready::Started, reader),
            "exited" => no_value(value, Ready::Exited, reader),
            "unix" => with_value(&name, value, reader, |o| Ready::Unix { path: o.take("path") }),
            "http" => with_value(&name, value, reader, |o| Ready::Http { url: o.take("url") }),
            "exec" => with_value(&name, value, reader, |o| Ready::Exec { argv: o.take("argv") }),
            "file" => with_value(&name, value, reader, |o| Ready::File { path: o.take("path") }),
            _ => unknown("started, exited, unix, http, exec or file", Ready::Started, reader),
        }
    }
}

impl FromJson for StatePlace {
    fn read(json: Json, reader: &mut Decoder) -> StatePlace {
        let (name, value) = reader.variant(json);
        let tmpfs = |o: &mut Object| StatePlace::Tmpfs { size: o.take("size"), mode: o.take("mode") };
        match &name[..] {
            "tmpfs" => with_value(&name, value, reader, tmpfs),
            "volume" => with_value(&name, value, reader, |o| StatePlace::Volume {
                source: o.take("source"),
                format: o.take("format"),
                folder: o.take("folder"),
            }),
            "folder" => with_value(&name, value, reader, |o| StatePlace::Folder {
                source: o.take("source"),
                mode: o.take("mode"),
            }),
            _ => {
                let blank = StatePlace::Tmpfs { size: String::new(), mode: String::new() };
                unknown("tmpfs, volume or folder", blank, reader)
            }
        }
    }
}

impl FromJson for Policy {
    fn read(json: Json, reader: &mut Decoder) -> Policy {
        let (name, value) = reader.variant(json);
        match &name[..] {
            "degrade" => no_value(value, Policy::Degrade, reader),
            "shell" => no_value(value, Policy::Shell, reader),
            "retry" => with_value(&name, value, reader, |o| Policy::Retry {
                times: o.take("times"),
                then: Box::new(o.take("then")),
            }),
            "reboot" => with_value(&name, value, reader, |o| Policy::Reboot { after_s: o.take("after_s") }),
            _ => unknown("degrade, shell, retry or reboot", Policy::Degrade, reader),
        }
    }
}

fn no_value<T>(value: Json, variant: T, reader: &mut Decoder) -> T {
    if value != Json::Null {
        reader.expected("no value");
    }
    variant
}

fn with_value<T>(name: &str, value: Json, reader: &mut Decoder, take: fn(&mut Object) -> T) -> T {
    let mut object = Object::open_below(name, value, reader);
    let variant = take(&mut object);
    object.close();
    variant
}

fn unknown<T>(expected: &str, blank: T, reader: &mut Decoder) -> T {
    reader.expected(expected);
    blank
}

impl FromJson for RootMode {
    fn read(json: Json, reader: &mut Decoder) -> RootMode {
        RootMode::ALL[reader.word(json, RootMode::WORDS)]
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::boot_config;
    use crate::json::from_slice;
    use crate::{
        Bond, BootConfig, ExtraInterface, Images, Ipv6Mode, Memory, NetworkMode, Policy, Ready, Restart, Service,
        StateFolder, StatePlace, Tmpfs, Trust, Verity, Vlan, Watchdog, Zram,
    };

    /// A config in which every field and every kind of variant is used.
    fn full_config() -> BootConfig {
        let mut config = boot_config();
        config.network.gateways = vec!["192.0.2.1".into()];
        let options = [("mode".to_string(), "802.3ad".to_string())].into_iter().collect();
        config.network.bonds = vec![Bond { name: "bond0".into(), interfaces: vec!["eth0".into()], options }];
        config.network.vlans = vec![Vlan { name: "vlan5".into(), interface: "bond0".into(), id: 5 }];
        config.network.extra = vec![ExtraInterface {
            interface: "eth1".into(),
            mode: NetworkMode::Static,
            ipv6: Ipv6Mode::Off,
            addresses: vec!["192.0.2.7/24".into()],
            mtu: None,
        }];
        config.time.servers = vec!["ntp.lab".into()];
        config.network.mtu = Some(9000);
        config.root.sources = vec!["nbd:///worker".into()];
        config.root.size = Some(4096);
        config.root.sha256 = Some("00".into());
        config.root.tree_sums_sha256 = Some("01".into());
        config.root.trust = Some(Trust { key: "02".into(), serial: 7, refuse_downgrade: true });
        (config.root.lost_reboot_s, config.root.corrupted_reboot_s) = (Some(300), Some(7));
        config.root.tmpfs = vec![Tmpfs { path: "/x".into(), size: "1%".into(), mode: "0700".into(), reserve: true }];
        let tmpfs = StatePlace::Tmpfs { size: "5%".into(), mode: "0711".into() };
        let source = "nbd://h/x-${mac}".to_string();
        let volume = StatePlace::Volume { source, format: Some("ext4".into()), folder: Some("a/b".into()) };
        let state = |path: &str, place| StateFolder { path: path.into(), overlay: path == "/etc", place };
        let verity = Some(Verity { blocks: 9, root_hash: "04".into() });
        config.root.verity = verity.clone();
        config.images = Some(Images { sha256: "03".into(), size: 40960, verity, store: "/var/x".into() });
        let folder = StatePlace::Folder { source: "/var/x/y".into(), mode: 0o750 };
        config.state = vec![state("/etc", volume), state("/var/x", tmpfs), state("/var/y", folder)];
        config.watchdog = Some(Watchdog { device: "/dev/watchdog".into(), timeout_s: 60, disarm: true });
        config.memory = Some(Memory {
            kernel_mib: 1,
            system_mib: 2,
            containerd_mib: 3,
            kubelet_mib: 4,
            shim_mib: 5,
            images_percent: 6,
            max_pods: 7,
            drop_in: Some("/etc/x.conf".into()),
            drop_in_head: "x".into(),
        });
        config.zram = Some(Zram { size_mib: 64, algorithm: "lz4".into(), swappiness: 100 });
        config.sysctls.insert("a.b".into(), "\"\\ \n\u{7}é😀".into());
        config.policies.insert("clock".into(), Policy::Retry { times: 2, then: Box::new(Policy::Shell) });
        config.policies.insert("x".into(), Policy::Degrade);
        config.policies.insert("root".into(), Policy::Reboot { after_s: 5 });
        let (path, url) = ("/s".to_string(), "http://127.0.0.1/".to_string());
        let exec = Ready::Exec { argv: vec!["/t".into()] };
        let files = [Ready::Unix { path: path.clone() }, Ready::File { path }, Ready::Http { url }];
        config.services = [Ready::Started, Ready::Exited, exec].into_iter().chain(files).map(service).collect();
        config.services[1].restart = Restart::Never;
        config.services[2].restart = Restart::Failure;
        config
    }

    fn service(ready: Ready) -> Service {
        let mut service = crate::fixture::service("s", &["/bin/s", "-x"]);
        (service.ready, service.restart) = (ready, Restart::Always);
        (service.limits.memory_min_mib, service.limits.tasks_max) = (16, Some(9));
        service
    }

    #[test]
    fn reads_what_serde_json_writes() {
        let config = full_config();
        for text in [serde_json::to_vec(&config).unwrap(), serde_json::to_vec_pretty(&config).unwrap()] {
            assert_eq!(from_slice::<BootConfig>(&text), Ok(config.clone()));
        }
    }

    #[test]
    fn errors_name_the_key() {
        let good = serde_json::to_string(&full_config()).unwrap();
        let cases = [
            ("\"size_mib\":64", "\"size_mib\":\"64\"", "zram.size_mib: expected u32"),
            ("\"size_mib\":64", "\"size_mib\":-1", "zram.size_mib: expected u32"),
            ("\"size_mib\":64", "\"size_mib\":64,\"size\":1", "zram: `size` is not known"),
            ("\"size_mib\":64", "\"size_mib\":64,\"size_mib\":64", "zram: `size_mib` is not known, or there twice"),
            ("\"size_mib\":64,", "", "zram: `size_mib` is missing"),
            ("\"mode\":\"dhcp\"", "\"mode\":\"carrier\"", "network.mode: expected one of none dhcp static"),
            ("\"degrade\"", "\"explode\"", "policies.x: expected degrade, shell, retry or reboot"),
            ("\"started\"", "{\"started\":1}", "services.ready: expected no value"),
            ("\"after_s\":5", "\"after_s\":4294967296", "policies.root.reboot.after_s: expected u32"),
            ("\"segments\":[]", "\"segments\":{}", "segments: expected a list"),
            ("\"overlay\":true", "\"overlay\":1", "state.overlay: expected true or false"),
            ("{\"tmpfs\":", "{\"disk\":", "state.place: expected tmpfs, volume or folder"),
            ("{\"after_s\":5}", "5", "policies.root.reboot: expected an object"),
        ];
        for (from, to, expected) in cases {
            assert!(good.contains(from), "{from}");
            let error = from_slice::<BootConfig>(good.replacen(from, to, 1).as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}, expected {expected}");
        }
    }
}
