//! A small recipe and pools for tests of the tree, of libraries and of modules.

use crate::assembly::{AssemblyError, Inputs, TreeBuild, build_tree};
use crate::cache::Cache;
use crate::entry::{Body, Entry, Kind};
use crate::recipe::*;
use crate::source::Pool;
use bootwright_contract as contract;
use std::collections::BTreeMap;

pub const RELEASE: &str = "6.12.0-test";

pub fn origin(line: u32) -> Origin {
    Origin { file: "test.toml".into(), line }
}

pub fn file(path: &str, bytes: impl AsRef<[u8]>, mode: u32) -> Entry {
    let body = Body::from_bytes(bytes.as_ref());
    Entry::of_root(path, Kind::File(body), mode)
}

pub fn link(path: &str, to: &str) -> Entry {
    Entry::of_root(path, Kind::Symlink(to.into()), 0o777)
}

pub fn dir(path: &str, mode: u32) -> Entry {
    Entry::of_root(path, Kind::Dir, mode)
}

pub fn component(name: &str, paths: &[&str]) -> Component {
    Component {
        name: name.into(),
        origin: origin(name.len() as u32),
        source: SourceSpec::Path(PathSpec { path: "x".into(), to: String::new(), modes: Default::default() }),
        paths: paths.iter().map(|p| p.to_string()).collect(),
        only_needed: false,
        enabled: true,
        exclude: Vec::new(),
        libraries: Vec::new(),
        rename: BTreeMap::new(),
        join: None,
        segment: SegmentName::Root,
        secrets: None,
    }
}

pub fn request(text: &str) -> ModuleRequest {
    ModuleRequest { text: text.into(), origin: origin(40) }
}

/// A recipe with its pools; `kernel` is the first component.
pub struct Fixture {
    pub recipe: CheckedRecipe,
    pub pools: Vec<(String, Pool)>,
    pub cache: tempfile::TempDir,
}

impl Fixture {
    pub fn new() -> Self {
        let mut fixture =
            Self { recipe: empty_recipe(), pools: Vec::new(), cache: tempfile::tempdir().expect("a temporary folder") };
        fixture
            .add(component("kernel", &["boot/vmlinuz-*"]), vec![file(&format!("boot/vmlinuz-{RELEASE}"), "MZ", 0o644)]);
        fixture
    }

    pub fn add(&mut self, component: Component, entries: Vec<Entry>) -> &mut Self {
        let mut entries = entries;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        self.pools.push((component.name.clone(), Pool { entries, ..Pool::default() }));
        self.recipe.components.push(component);
        self
    }

    /// More files in a component's pool.
    pub fn give(&mut self, component: &str, more: Vec<Entry>) -> &mut Self {
        let (_, pool) = self.pools.iter_mut().find(|(name, _)| name == component).expect("it is there");
        pool.entries.extend(more);
        pool.entries.sort_by(|a, b| a.path.cmp(&b.path));
        self
    }

    pub fn build(&self) -> Result<TreeBuild, AssemblyError> {
        build_tree(&Inputs {
            recipe: &self.recipe,
            pools: &self.pools,
            init: Body::from_bytes(*b"PID1"),
            sbom: Body::from_bytes(*b"{}"),
            render: &|_, text| match text.contains("{{ broken") {
                true => Err("no such variable".into()),
                false => Ok(text.replace("{{ name }}", "node")),
            },
            signer: None,
            cache: &Cache::open(self.cache.path()).expect("the cache opens"),
            jobs: 2,
        })
    }

    /// The paths of a segment without what every image has.
    pub fn paths(&self, segment: SegmentName) -> Vec<String> {
        let build = self.build().unwrap_or_else(|e| panic!("{e}"));
        let own = |path: &str| {
            let every = ["usr", "usr/lib", "lib", "init", "usr/share"];
            !path.contains("lib/modules") && !path.contains("share/bootwright") && !every.contains(&path)
        };
        build.tree.segment(segment).map(|e| e.entry.path.clone()).filter(|p| own(p)).collect()
    }

    pub fn error(&self) -> String {
        match self.build() {
            Ok(_) => panic!("it builds"),
            Err(e) => {
                let failure = crate::error::Failure::from(e);
                assert_eq!(failure.exit, crate::error::Exit::Usage, "{failure}");
                failure.to_string()
            }
        }
    }
}

fn empty_recipe() -> CheckedRecipe {
    CheckedRecipe {
        name: "test".into(),
        summary: String::new(),
        path: "/r/test.toml".into(),
        lock_path: "/r/test.lock".into(),
        files_read: Vec::new(),
        lineage: Lineage::default(),
        inherited_locks: Vec::new(),
        vars: BTreeMap::new(),
        kernel: Kernel {
            origin: origin(30),
            component: "kernel".into(),
            early: Vec::new(),
            netroot: None,
            modaliases: Vec::new(),
            strip: false,
            strip_root: false,
            modules: Vec::new(),
            load: Vec::new(),
            sets: Default::default(),
            cmdline: Vec::new(),
            firmware: Firmware::None,
            firmware_skip: Vec::new(),
        },
        components: Vec::new(),
        overlays: Vec::new(),
        files: Vec::new(),
        root: Root {
            mode: RootMode::Ram,
            sources: Vec::new(),
            choices: Vec::new(),
            names_sources: false,
            image: contract::RootImage::Cpio,
            block_kib: 128,
            compressor: "zstd".into(),
            level: None,
            overlay_size: "32M".into(),
            read_ahead_kb: None,
            tmpfs: Vec::new(),
            lost_reboot_s: None,
            corrupted_reboot_s: None,
            trust: None,
            refuse_downgrade: false,
        },
        pack: Pack { boot: Compression::None, stable: Compression::None, volatile: Compression::None },
        services: Vec::new(),
        network: contract::Network {
            mode: contract::NetworkMode::None,
            ipv6: contract::Ipv6Mode::Off,
            ..contract::Network::dhcp(1)
        },
        time: contract::Time::default(),
        hostname: contract::Hostname { dhcp: false, fallback: None },
        sysctls: BTreeMap::new(),
        policies: BTreeMap::new(),
        report: None,
        zram: None,
        state: Vec::new(),
        watchdog: None,
        memory: None,
        shutdown_timeout_s: 1,
        budget: Budget::default(),
        smoke: Smoke { ram_mib: 256, smp: 1, deadline_s: 1, expect: Vec::new(), cmdline: Vec::new() },
        secrets: Vec::new(),
    }
}
