//! `[root]`, `[pack]`, `[budget]`, `[smoke]`: how the image is made and what is asked of it.

use super::Check;
use crate::recipe::file::{self, BudgetFile, Compressor, OneOrMany, PackFile, RootFile, SmokeFile};
use crate::recipe::node::TomlNode;
use crate::recipe::place::At;
use crate::recipe::problem::Problem;
use crate::recipe::{Budget, Compression, EXPECTATION_WORDS, Expectation, Pack, Root, RootMode, Smoke, default_source};
use bootwright_contract::{MemoryPlan, RootImage, Service, Tmpfs};
use std::path::Path;

impl Check<'_> {
    /// `name`: the recipe's.
    pub(super) fn root(&mut self, tree: &TomlNode, name: &str) -> Option<Root> {
        let (node, file) = self.section::<RootFile>(tree, "root");
        let file = file?;
        // squashfs: 4 KiB to 1 MiB (Documentation/filesystems/squashfs.rst); erofs' physical clusters end there too.
        for (key, block_kib) in [("block_kib", Some(file.block_kib)), ("network_block_kib", file.network_block_kib)] {
            let wrong = block_kib.filter(|kib| !(kib.is_power_of_two() && (4..=1024).contains(kib)));
            if let Some(found) = wrong.map(|kib| kib.to_string()) {
                let problem = Problem::BadValue { found, expected: "a power of two from 4 to 1024", example: "128" };
                self.report(node.at_of(key), problem);
            }
        }
        if let Some(level) = file.level {
            self.check_level(node.at_of("level"), file.compressor, level);
        }
        self.check_tmpfs_size(node.at_of("overlay_size"), &file.overlay_size);
        let tmpfs = self.tmpfs(node.get("tmpfs"));
        let trust = file.trust.map(|key| self.host_path(node.at_of("trust"), &key));
        if let Some(key) = &trust {
            self.check_there(node.at_of("trust"), "file", key, Path::is_file);
        }
        let named = self.sources(&node, file.source);
        let (mode, image) = (self.root_mode.unwrap_or(file.mode), file.image);
        // Of another mode than the recipe's own only what is meant for it.
        let used = named.into_iter().filter(|url| mode == file.mode || RootMode::of_source(url) == Some(mode));
        let mut sources: Vec<String> = used.filter(|_| mode.is_network()).collect();
        let names_sources = !sources.is_empty();
        if mode.is_network() && !names_sources {
            sources.push(default_source(name, mode));
        }
        let on_network = |value: Option<u32>| value.filter(|_| mode.is_network());
        Some(Root {
            mode,
            sources,
            choices: file.choices,
            names_sources,
            image: if mode.is_network() && image == RootImage::Cpio { RootImage::Squashfs } else { image },
            block_kib: on_network(file.network_block_kib).unwrap_or(file.block_kib),
            compressor: compressor_name(file.compressor).into(),
            level: file.level,
            overlay_size: file.overlay_size,
            read_ahead_kb: on_network(file.network_read_ahead_kb).or(file.read_ahead_kb),
            tmpfs,
            lost_reboot_s: file.lost.after_s(),
            corrupted_reboot_s: file.corrupted.after_s(),
            trust,
            refuse_downgrade: file.refuse_downgrade,
        })
    }

    /// The URLs of `source`, each of a known scheme and with something after the host.
    fn sources(&mut self, node: &TomlNode, file: Option<OneOrMany>) -> Vec<String> {
        let sources = match file {
            None => Vec::new(),
            Some(OneOrMany::One(one)) => vec![one],
            Some(OneOrMany::Many(many)) => many,
        };
        for (i, url) in sources.iter().enumerate() {
            let at = if node.get("source").is_some_and(|n| n.text().is_some()) {
                node.at_of("source")
            } else {
                node.at_item("source", i)
            };
            if RootMode::of_source(url).is_none() || !has_place(url) {
                self.report(at, Problem::NoRootSource { found: url.clone() });
            }
        }
        sources
    }

    fn check_level(&mut self, at: At, compressor: Compressor, level: u32) {
        let (least, most) = match compressor {
            Compressor::Zstd => (1, 22),
            Compressor::Xz | Compressor::Gzip => (1, 9),
            Compressor::Lz4hc => (1, 12),
            Compressor::Lz4 => {
                return self.report(at, Problem::NotUsed { key: "level", reason: "lz4 has no levels; lz4hc has" });
            }
        };
        if !(least..=most).contains(&i64::from(level)) {
            self.report(at, Problem::OutOfRange { found: level.into(), least, most });
        }
    }

    fn tmpfs(&mut self, list: Option<&TomlNode>) -> Vec<Tmpfs> {
        let mut out = Vec::new();
        for node in list.map_or(&[][..], TomlNode::items) {
            let Some(file) = self.read::<file::TmpfsFile>(Some(node)) else { continue };
            let path = self.image_file(node.at_of("path"), &file.path);
            self.mode(node.at_of("mode"), &file.mode);
            let Some(size) = self.need(file.size, "size", node, "this tmpfs") else { continue };
            self.check_tmpfs_size(node.at_of("size"), &size);
            out.push(Tmpfs { path: format!("/{path}"), size, mode: file.mode, reserve: file.reserve });
        }
        out
    }

    /// tmpfs(5), `size=`: a number with k, m, g or %; or, with `[memory]`, a share.
    pub(super) fn check_tmpfs_size(&mut self, at: At, text: &str) {
        let share = MemoryPlan::default().share(text).is_some();
        if share && !self.has_shares {
            let reason = "there is no `[memory]`, which says what its shares are of";
            self.report(at, Problem::NotUsed { key: "size", reason });
        } else if !share && !bootwright_contract::is_tmpfs_size(text) {
            let expected = "a size of a tmpfs";
            self.report(at, Problem::BadValue { found: text.into(), expected, example: "64M` or `25%" });
        }
    }

    /// `root`: the boot segment of a network root has a compression of its own.
    pub(super) fn pack(&mut self, tree: &TomlNode, root: Option<&Root>) -> Option<Pack> {
        let (node, file) = self.section::<PackFile>(tree, "pack");
        let file = file?;
        let stable = self.compression(node.at_of("stable"), &file.stable);
        let volatile = self.compression(node.at_of("volatile"), &file.volatile);
        let netroot = self.compression(node.at_of("netroot"), &file.netroot);
        let boot = if root.is_some_and(|root| root.mode.is_network()) { netroot } else { stable };
        Some(Pack { boot: boot?, stable: stable?, volatile: volatile? })
    }

    fn compression(&mut self, at: At, text: &str) -> Option<Compression> {
        let parsed = parse_compression(text);
        if parsed.is_none() {
            let expected = "a compression: `none`, `gzip:0-9`, `xz:0-9`, `xz:0-9+x86` or `zstd:1-22`";
            self.report(at, Problem::BadValue { found: text.into(), expected, example: "zstd:19" });
        }
        parsed
    }

    pub(super) fn budget(&mut self, tree: &TomlNode) -> Option<Budget> {
        let (node, file) = self.section::<BudgetFile>(tree, "budget");
        for entry in node.get("components").map_or(&[][..], TomlNode::entries) {
            self.check_component(tree, entry.key_at, &entry.key);
        }
        let file = file?;
        let limits =
            file.components.iter().map(|(name, mb)| (node.get("components").map_or(node.at, |n| n.at_of(name)), *mb));
        let boot_files = file.boot_files_mb.map(|mb| (node.at_of("boot_files_mb"), mb));
        let netroot = file.netroot_initrd_mb.map(|mb| (node.at_of("netroot_initrd_mb"), mb));
        for (at, mb) in limits.chain(boot_files).chain(netroot) {
            if mb <= 0.0 {
                let expected = "a size in MB above 0";
                self.report(at, Problem::BadValue { found: mb.to_string(), expected, example: "44" });
            }
        }
        Some(Budget {
            boot_files_mb: file.boot_files_mb,
            netroot_initrd_mb: file.netroot_initrd_mb,
            ram_mib: file.ram_mib,
            workload_mib: file.workload_mib,
            components_mb: file.components,
            origin: tree.get("budget").map(|n| self.origin(n.at)),
        })
    }

    pub(super) fn smoke(&mut self, tree: &TomlNode, services: &[Service]) -> Option<Smoke> {
        let (node, file) = self.section::<SmokeFile>(tree, "smoke");
        let file = file?;
        for (i, word) in file.cmdline.iter().enumerate() {
            self.check_cmdline_word(node.at_item("cmdline", i), word);
        }
        let mut expect: Vec<Expectation> = Vec::new();
        for (i, word) in file.expect.iter().enumerate() {
            let at = node.at_item("expect", i);
            match word.parse() {
                Ok(Expectation::Service(name)) if services.iter().all(|service| service.name != name) => {
                    if !self.was_service(tree, &name) {
                        let known = services.iter().map(|service| service.name.clone()).collect();
                        self.report(at, Problem::Unknown { what: "service", name, known });
                    }
                }
                Ok(one) if expect.contains(&one) => {}
                Ok(one) => expect.push(one),
                Err(_) => {
                    let choices = EXPECTATION_WORDS.map(String::from).to_vec();
                    self.report(at, Problem::NotAChoice { found: word.clone(), choices });
                }
            }
        }
        if expect.is_empty() {
            expect.push(Expectation::PhasesDone);
        }
        Some(Smoke { ram_mib: file.ram_mib, smp: file.smp, deadline_s: file.deadline_s, expect, cmdline: file.cmdline })
    }
}

impl Check<'_> {
    /// The recipe has that service but for a condition, or an extending recipe took it out: nobody waits for it then.
    fn was_service(&self, tree: &TomlNode, name: &str) -> bool {
        let items = tree.get("service").map_or(&[][..], TomlNode::items);
        items.iter().any(|item| item.text_of("name") == Some(name))
            || self.earlier.removed.contains(&("service".into(), name.into()))
    }
}

/// `scheme://host/place`, printable; an iSCSI target may be left to discovery.
fn has_place(url: &str) -> bool {
    let printable = url.bytes().all(|b| b.is_ascii_graphic());
    let place = url.split_once("://").map_or("", |(_, rest)| rest).split_once('/').map_or("", |(_, place)| place);
    printable && (!place.is_empty() || RootMode::of_source(url) == Some(RootMode::Iscsi))
}

fn compressor_name(compressor: Compressor) -> &'static str {
    match compressor {
        Compressor::Zstd => "zstd",
        Compressor::Xz => "xz",
        Compressor::Gzip => "gzip",
        Compressor::Lz4 => "lz4",
        Compressor::Lz4hc => "lz4hc",
    }
}

/// `none`, `gzip:9`, `xz:6`, `xz:6+x86`, `zstd:19`; without a level: gzip 9, xz 6, zstd 19.
fn parse_compression(text: &str) -> Option<Compression> {
    let (name, level) = text.split_once(':').unwrap_or((text, ""));
    let number = |text: &str, default: u32, most: u32| match text {
        "" => Some(default),
        text => text.parse().ok().filter(|n| *n <= most),
    };
    match name {
        "none" if text == "none" => Some(Compression::None),
        "gzip" => number(level, 9, 9).map(Compression::Gzip),
        "xz" => {
            let (level, x86) = level.strip_suffix("+x86").map_or((level, false), |level| (level, true));
            Some(Compression::Xz { level: number(level, 6, 9)?, x86 })
        }
        "zstd" => number(level, 19, 22).filter(|n| *n >= 1).and_then(|n| i32::try_from(n).ok()).map(Compression::Zstd),
        _ => None,
    }
}
