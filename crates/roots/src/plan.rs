//! The plan for root and volumes: where they come from. It is made once, in phase `config`.

use super::attach::{self, ModuleOptions};
use super::source;
use super::source::{Host, Source, SourceError, Wanted};
use bootwright_base::cmdline::Cmdline;
use bootwright_contract::{BootConfig, RootMode, StatePlace};
use std::net::IpAddr;

/// Whether this PID1 supports roots and volumes on servers. The small PID1 does not: every use of that code is behind a
/// check of this constant, so that the linker drops it.
pub const BUILT_IN: bool = cfg!(feature = "netroot");

/// Where the root and the volumes come from.
#[derive(Debug)]
pub struct RootPlan {
    /// Sources of the root in the order in which they are tried; never empty. An error is reported in phase `root`.
    pub sources: Result<Vec<Wanted>, SourceError>,
    root_is_served: bool,
    volumes_are_served: bool,
    needs_ipv6: bool,
    modules: Vec<ModuleOptions>,
}

impl RootPlan {
    /// Makes the plan from boot config and command line.
    pub fn resolve(config: &BootConfig, cmdline: &Cmdline) -> RootPlan {
        let sources = sources(config, cmdline);
        let wanted = sources.as_deref().unwrap_or_default();
        let named = |wanted: &Wanted| match wanted {
            Wanted::Source(source) => source.host().cloned(),
            Wanted::RootPath | Wanted::Unread(_) => None,
        };
        let volume = |place: &StatePlace| matches!(place, StatePlace::Volume { .. });
        RootPlan {
            root_is_served: !wanted.iter().all(|wanted| *wanted == Source::Ram.into()),
            volumes_are_served: config.state.iter().any(|entry| volume(&entry.place)),
            needs_ipv6: matches!(wanted.iter().find_map(named), Some(Host::Address(IpAddr::V6(_)))),
            modules: wanted.first().filter(|_| BUILT_IN).map_or(Vec::new(), modules),
            sources,
        }
    }

    // Without network roots, these are constants for the compiler, so that the code behind a "yes" is not linked. Such
    // a PID1 refuses network sources in phase `root`.

    /// Whether the root is on a server.
    pub fn root_is_served(&self) -> bool {
        BUILT_IN && self.root_is_served
    }

    /// Whether the root is fetched into memory, from its first source.
    pub fn root_is_fetched(&self) -> bool {
        let first = self.sources.as_ref().ok().and_then(|sources| sources.first());
        BUILT_IN && matches!(first, Some(Wanted::Source(source)) if matches!(**source, Source::Http(_)))
    }

    /// Whether a volume is on a server.
    pub fn volumes_are_served(&self) -> bool {
        BUILT_IN && self.volumes_are_served
    }

    /// Whether the root or a volume is on a server, so that PID1 must be able to repair connections without it.
    pub fn needs_servers(&self) -> bool {
        self.root_is_served() || self.volumes_are_served()
    }

    /// Whether the first server is given by an IPv6 address.
    pub fn needs_ipv6(&self) -> bool {
        BUILT_IN && self.needs_ipv6
    }

    /// Modules for the first source. Empty when DHCP has still to name it.
    pub fn modules(&self) -> &[ModuleOptions] {
        &self.modules
    }
}

fn sources(config: &BootConfig, cmdline: &Cmdline) -> Result<Vec<Wanted>, SourceError> {
    let mut wanted = source::wanted(cmdline, &config.root.sources)?;
    if wanted.is_empty() {
        wanted.push(match config.root.mode {
            RootMode::Ram => Source::Ram.into(),
            _ => Wanted::RootPath,
        });
    }
    Ok(wanted)
}

fn modules(wanted: &Wanted) -> Vec<ModuleOptions> {
    match wanted {
        Wanted::Source(source) => attach::modules(source),
        Wanted::RootPath | Wanted::Unread(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::cmdline::parse_cmdline;
    use bootwright_contract::StateFolder;
    use bootwright_contract::fixture::boot_config;

    fn plan(line: &str) -> RootPlan {
        let mut config = boot_config();
        config.root.sources = vec!["nbd:///worker".into()];
        RootPlan::resolve(&config, &parse_cmdline(line))
    }

    #[test]
    fn a_root_in_memory_needs_no_server() {
        let config = boot_config();
        for line in ["", "bw.root=", "bw.root=ram", "root= netroot= nfsroot= nbdroot=", "root=/dev/sda1"] {
            let plan = RootPlan::resolve(&config, &parse_cmdline(line));
            assert_eq!(plan.sources.as_deref(), Ok(&[Wanted::from(Source::Ram)][..]), "{line}");
            assert!(!plan.needs_servers() && !plan.needs_ipv6() && plan.modules().is_empty(), "{line}");
        }
    }

    #[test]
    fn a_root_on_a_server_needs_one_where_it_can_be_reached() {
        assert_eq!((plan("").root_is_served(), plan("").needs_servers()), (BUILT_IN, BUILT_IN));
        assert_eq!(plan("bw.root=ram bw.root=nbd:///x").root_is_served(), BUILT_IN);
        assert!(!plan("bw.root=ram").root_is_served());
        assert!(!plan("bw.root=gopher://x").root_is_served() && plan("bw.root=gopher://x").sources.is_err());
        for (line, v6) in [("", false), ("bw.root=nbd://[2001:db8::1]/x", true), ("bw.root=dhcp", false)] {
            assert_eq!(plan(line).needs_ipv6(), BUILT_IN && v6, "{line}");
        }
    }

    #[test]
    fn volumes_need_servers_too() {
        let mut config = boot_config();
        let source = "nbd:///state".into();
        let place = StatePlace::Volume { source, folder: None, format: None };
        config.state = vec![StateFolder { path: "/var".into(), overlay: false, place }];
        let plan = RootPlan::resolve(&config, &Cmdline::default());
        assert_eq!((plan.root_is_served(), plan.volumes_are_served()), (false, BUILT_IN));
        assert_eq!(plan.needs_servers(), BUILT_IN);
    }

    #[test]
    fn the_first_sources_modules_are_known_before_the_network_is_up() {
        for (line, expected) in [
            ("", &["nbd", "dm_verity"][..]),
            ("bw.root=nfs://10.0.0.1/root", &["nfs", "nfsv4"]),
            ("bw.root=nfs://10.0.0.1/root?vers=3", &["nfs", "nfsv3"]),
            ("bw.root=iscsi://10.0.0.1/iqn.2024-07.x:y", &["crc32c_generic", "iscsi_tcp", "sd_mod", "dm_verity"]),
            ("bw.root=http://10.0.0.1/root.img", &[]),
            ("bw.root=dhcp", &[]),
        ] {
            let found: Vec<&str> = plan(line).modules().iter().map(|(name, _)| *name).collect();
            assert_eq!(found, if BUILT_IN { expected } else { &[] }, "{line}");
        }
    }
}
