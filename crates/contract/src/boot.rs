//! The boot config: all that PID1 has to know about the image it runs in.

use crate::{ByName, Images, Memory, Root};
use serde::{Deserialize, Serialize};

/// The whole boot config, JSON at [`crate::paths::BOOT_CONFIG`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootConfig {
    /// [`crate::CONTRACT_VERSION`].
    pub version: u32,
    /// Recipe name.
    pub recipe: String,
    /// Content id of the image, hex.
    pub image_id: String,
    /// Clock floor: seconds since 1970; the clock is never earlier than this.
    pub clock_floor: u64,
    /// Segments whose files PID1 checks before it uses them, in order.
    pub segments: Vec<SegmentSums>,
    pub modules: Modules,
    pub network: Network,
    pub time: Time,
    pub root: Root,
    /// Container images that are baked in; absent: none.
    pub images: Option<Images>,
    /// Folders that live elsewhere than in the root, parents first.
    pub state: Vec<StateFolder>,
    /// Swap on compressed memory; none when absent.
    pub zram: Option<Zram>,
    /// Kernel parameters, dotted names as in sysctl(8): `net.ipv4.ip_forward` -> `1`.
    pub sysctls: ByName<String>,
    pub hostname: Hostname,
    pub services: Vec<Service>,
    /// What to do when a phase fails, by phase name; phases not named keep PID1's own table.
    pub policies: ByName<Policy>,
    /// Where PID1 posts how far the boot is ([`crate::report`]): `http://HOST[:PORT]/PATH`, an empty host is the boot server.
    pub report: Option<String>,
    /// Seconds that a whole shutdown may take before the machine is reset or switched off regardless.
    pub shutdown_timeout_s: u32,
    /// Absent: no watchdog is opened.
    pub watchdog: Option<Watchdog>,
    /// What is kept of the memory for whom; absent: nothing is.
    pub memory: Option<Memory>,
}

/// A segment of the initrd.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentSums {
    pub name: String,
    /// SHA-256 (hex) of its sums file, [`crate::paths::SUMS`]`/<name>`.
    pub sums_sha256: String,
    /// XXH64 (seed 0, 16 hex digits) of all files that the sums list, one after another in that order, but for kernel modules,
    /// which are compared as they are loaded ([`crate::sums::is_module`]). Whoever can change
    /// them can change this file and PID1 too, so that only accidents have to be found; and this is found ten times as fast.
    /// Absent: each file is compared by its SHA-256.
    pub xxh64: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modules {
    /// Kernel release, the folder's name below `/lib/modules`.
    pub release: String,
    /// Loaded (with dependencies) before the root is mounted, in this order.
    pub early: Vec<String>,
    /// Loaded from the root after the switch, in this order, beside what coldplug asks for.
    pub load: Vec<String>,
    /// Match devices' modaliases against `modules.alias` and load what serves them.
    pub coldplug: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    pub mode: NetworkMode,
    pub ipv6: Ipv6Mode,
    /// Interface names or MACs (`aa:bb:cc:dd:ee:ff`), the preferred one first; BOOTIF and `ip=` on the command line come
    /// before them. Empty: by carrier.
    pub interfaces: Vec<String>,
    /// `Static` only: addresses with prefix, `192.0.2.7/24`, `2001:db8::7/64`.
    pub addresses: Vec<String>,
    /// `Static` only: at most one of each family.
    pub gateways: Vec<String>,
    pub dns: Vec<String>,
    pub search: Vec<String>,
    pub mtu: Option<u32>,
    /// Seconds to wait for a carrier, and then for a lease, before the phase fails.
    pub timeout_s: u32,
    /// Links that PID1 makes, lower ones first.
    pub bonds: Vec<Bond>,
    pub vlans: Vec<Vlan>,
    /// Set up beside the first interface, without default gateway and without waiting for them.
    pub extra: Vec<ExtraInterface>,
}

impl Network {
    /// DHCP on whatever link there is.
    pub fn dhcp(timeout_s: u32) -> Network {
        Network {
            mode: NetworkMode::Dhcp,
            ipv6: Ipv6Mode::Auto,
            interfaces: vec![],
            addresses: vec![],
            gateways: vec![],
            dns: vec![],
            search: vec![],
            mtu: None,
            timeout_s,
            bonds: vec![],
            vlans: vec![],
            extra: vec![],
        }
    }
}

/// Several links as one (Documentation/networking/bonding.rst).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bond {
    pub name: String,
    /// Names or MACs.
    pub interfaces: Vec<String>,
    /// The kernel's names and values: `mode`, `miimon`, `lacp_rate`, `xmit_hash_policy`, ...
    pub options: ByName<String>,
}

/// Modes of a bond (Documentation/networking/bonding.rst).
pub const BOND_MODES: [&str; 7] =
    ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"];

/// Options of a bond that PID1 can set, beside `mode`.
pub const BOND_OPTIONS: [&str; 9] = [
    "miimon",
    "updelay",
    "downdelay",
    "fail_over_mac",
    "xmit_hash_policy",
    "min_links",
    "lacp_rate",
    "ad_select",
    "num_grat_arp",
];

/// A VLAN (IEEE 802.1Q) of a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vlan {
    pub name: String,
    /// Name or MAC of the link below.
    pub interface: String,
    /// 1 to 4094.
    pub id: u16,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraInterface {
    /// Name or MAC.
    pub interface: String,
    pub mode: NetworkMode,
    pub ipv6: Ipv6Mode,
    pub addresses: Vec<String>,
    pub mtu: Option<u32>,
}

/// Where IPv6 addresses come from, beside static ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipv6Mode {
    /// Only the link-local address.
    Off,
    /// What routers say: addresses from their prefixes, DHCPv6 if they ask for it.
    Auto,
    /// Routers, and addresses by DHCPv6 whatever they say.
    Dhcp,
}

/// Where the time comes from, beside the clock of the machine and the servers that DHCP names.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Time {
    /// SNTP servers: addresses or names.
    pub servers: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    None,
    Dhcp,
    Static,
}

/// A folder with a place of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateFolder {
    /// Absolute path on the node, made when it is missing.
    pub path: String,
    /// The root's files stay visible in it: an overlay whose upper layer is the place. Otherwise the place covers them.
    pub overlay: bool,
    pub place: StatePlace,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum StatePlace {
    Tmpfs {
        /// `size=` of tmpfs(5), or a share ([`MemoryPlan::share`](crate::MemoryPlan::share)).
        size: String,
        /// Octal mode of its root folder, such as `0755`.
        mode: String,
    },
    Volume {
        /// URL of an `nfs`, `iscsi` or `nbd` source. `${mac}`, `${hostname}`, `${ip}` and `${gateway}` are filled in on
        /// the node. Folders of the same source share one mount.
        source: String,
        /// File system that is made on a device that is empty; absent: none ever is.
        format: Option<String>,
        /// Folder of the volume, no leading `/`; absent: its top.
        folder: Option<String>,
    },
    /// A folder elsewhere on the node, made when it is missing, so that both share a file system.
    Folder {
        /// Absolute path.
        source: String,
        /// Permissions of the folder, as chmod(2) takes them.
        mode: u32,
    },
}

/// The hardware watchdog (Documentation/watchdog/watchdog-api.rst).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watchdog {
    /// `/dev/watchdog`.
    pub device: String,
    /// Seconds without a sign of life after which it resets the machine.
    pub timeout_s: u32,
    /// Stop it when the machine is switched off or halted in order; it stays armed through a reboot in any case.
    pub disarm: bool,
}

/// Swap on a zram device (Documentation/admin-guide/blockdev/zram.rst).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zram {
    /// `disksize` in MiB (uncompressed).
    pub size_mib: u32,
    /// `comp_algorithm`: `lz4`, `zstd`, ...
    pub algorithm: String,
    /// `vm.swappiness`, 0 to 200.
    pub swappiness: u32,
}

/// Where the node's name comes from. DHCP option 12 comes before `fallback` when `dhcp` is set; `bw.hostname=` before both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hostname {
    pub dhcp: bool,
    /// Fixed name; absent: `node-` and the MAC's last six hex digits.
    pub fallback: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub name: String,
    /// Absolute program path and arguments. `${ip}`, `${ip6}`, `${hostname}`, `${mac}` and `${gateway}` are filled in when it starts.
    pub exec: Vec<String>,
    pub env: ByName<String>,
    /// Services, or the built-in target `network`, that must be ready first.
    pub after: Vec<String>,
    pub ready: Ready,
    /// Seconds after which a start that did not become ready counts as failed.
    pub ready_timeout_s: u32,
    pub restart: Restart,
    /// First delay of the restart back-off in milliseconds; doubles up to 30 s, reset after 60 s of running.
    pub backoff_ms: u32,
    /// Signal name without `SIG`, such as `TERM`.
    pub stop_signal: String,
    /// Seconds between the stop signal and SIGKILL.
    pub stop_timeout_s: u32,
    /// cgroups (relative to the cgroup2 root) emptied once this service has stopped because the machine goes down: TERM,
    /// wait, `cgroup.kill`. A stop by hand leaves them, so that the service can be started again.
    pub stop_cgroups: Vec<String>,
    /// Upper bound of `/var/log/<name>.log` and of its one predecessor `.1`, each, in KiB.
    pub log_kib: u32,
    /// Copy its output to the console too.
    pub console: bool,
    pub oom_score_adj: i32,
    pub limits: Limits,
}

/// What a cgroup may take, and what is kept for it (kernel: Documentation/admin-guide/cgroup-v2.rst).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// MiB in use that are never taken back to give them to others (`memory.min`).
    pub memory_min_mib: u32,
    /// `memory.max` in MiB; 0 is no limit.
    pub memory_max_mib: u32,
    /// Processes and threads (`pids.max`); 0 is no limit, `None` a share of what the machine can have.
    pub tasks_max: Option<u32>,
    /// Share of the processors beside others that are busy too (`cpu.weight`), 1 to 10000; the kernel's default is 100.
    pub cpu_weight: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Ready {
    /// As soon as it runs.
    Started,
    /// When it has ended with status 0 (a one-shot).
    Exited,
    /// When the unix socket accepts a connection.
    Unix { path: String },
    /// When a GET answers 200; `http://127.0.0.1:10248/healthz`.
    Http { url: String },
    /// When the command ends with status 0.
    Exec { argv: Vec<String> },
    /// When the file exists.
    File { path: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Restart {
    Always,
    Failure,
    Never,
}

macro_rules! phases {
    ($($id:ident => $name:literal,)*) => {
        /// A phase of PID1's boot; their order is the order of the boot.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum PhaseId {
            $($id,)*
        }

        /// All phases in boot order: the keys of [`BootConfig::policies`].
        pub const PHASES: [PhaseId; [$($name),*].len()] = [$(PhaseId::$id),*];

        impl PhaseId {
            /// The word on the console, in policies and on the command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(PhaseId::$id => $name,)*
                }
            }
        }
    };
}

phases! {
    Mounts => "mounts",
    Console => "console",
    Config => "config",
    Verify => "verify",
    Clock => "clock",
    Early => "early",
    Root => "root",
    Switch => "switch",
    Network => "network",
    Time => "time",
    Devices => "devices",
    State => "state",
    Image => "image",
    Modules => "modules",
    Services => "services",
}

impl PhaseId {
    /// The phase of that name.
    pub fn of(name: &str) -> Option<PhaseId> {
        PHASES.into_iter().find(|phase| phase.name() == name)
    }
}

/// What PID1 does when a phase has failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Policy {
    /// Try again, at most `times` more (0: for ever), then `then`.
    Retry { times: u32, then: Box<Policy> },
    /// Go on without it.
    Degrade,
    /// A shell on the console if the image holds one, else halt with the reason on the console.
    Shell,
    /// Reboot after that many seconds.
    Reboot { after_s: u32 },
}
