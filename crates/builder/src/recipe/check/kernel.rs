//! `[kernel]`: the component, the command line, and modules with their sets.

use super::Check;
use crate::recipe::file::KernelFile;
use crate::recipe::fleet::{find_files, parse_modaliases};
use crate::recipe::load::shown;
use crate::recipe::node::{TomlNode, Value};
use crate::recipe::place::At;
use crate::recipe::problem::Problem;
use crate::recipe::{Component, Kernel, ModuleRequest, Root, SourceSpec};
use bootwright_contract::{Network, RootImage};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// `COMMAND_LINE_SIZE` of x86 (arch/x86/include/asm/setup.h) is 2048 with the final zero, and the boot chain adds words of its
/// own: where the machine booted from, its root, its node's settings.
const MOST_CMDLINE: usize = 2047 - 512;

/// What mounts baked container images, and proves them where they stay on a server.
pub(super) fn image_modules(components: &[Component], kernel: &mut Kernel) {
    let is_image = |component: &&Component| component.enabled && matches!(component.source, SourceSpec::Image(_));
    let Some(Component { origin, .. }) = components.iter().find(is_image) else { return };
    for (list, module) in [(Some(&mut kernel.early), "squashfs"), (kernel.netroot.as_mut(), "dm_verity")] {
        if let Some(list) = list.filter(|list| !list.iter().any(|request| request.text == module)) {
            list.push(ModuleRequest { text: module.into(), origin: origin.clone() });
        }
    }
}

impl Check<'_> {
    /// `root`: which modules the initrd of a network root has. Files of modaliases are added to `files_read`.
    pub(super) fn kernel(
        &mut self,
        tree: &TomlNode,
        root: Option<&Root>,
        files_read: &mut Vec<PathBuf>,
    ) -> Option<Kernel> {
        let Some(node) = tree.get("kernel") else {
            self.need(None::<()>, "kernel", tree, "the recipe, or extend one that has it (`extends = \"base\"`)");
            return None;
        };
        self.globs(node, "firmware_skip");
        let mut sets = BTreeMap::new();
        for entry in node.get("sets").map_or(&[][..], TomlNode::entries) {
            // Sets that nothing uses are checked too.
            let (mut chain, mut modules) = (vec![entry.key.clone()], Vec::new());
            self.expand(node, &entry.node, &mut chain, &mut modules);
            sets.insert(entry.key.clone(), modules.into_iter().map(|module| module.text).collect());
        }
        self.check_excluded(node);
        let early = self.modules(node, "early");
        let netroot = self.netroot(node, root);
        let modules = self.modules(node, "modules");
        let load = self.modules(node, "load");
        let modaliases = self.modaliases(node, files_read);
        let file: KernelFile = self.read(Some(node))?;
        let component = self.need(file.component, "component", node, "`[kernel]`")?;
        self.check_component(tree, node.at_of("component"), &component);
        for (i, word) in file.cmdline.iter().enumerate() {
            self.check_cmdline_word(node.at_item("cmdline", i), word);
        }
        let length = file.cmdline.join(" ").len();
        if length > MOST_CMDLINE {
            let problem = Problem::TooLong { what: "the kernel command line", found: length, most: MOST_CMDLINE };
            self.report(node.at_of("cmdline"), problem);
        }
        Some(Kernel {
            origin: self.origin(node.at),
            component,
            early,
            netroot,
            modaliases,
            strip: file.strip,
            // A cpio is unpacked in RAM. The tree for NFS is that of the image: `bw.root=` may choose between them.
            strip_root: file.strip && root.is_some_and(|root| root.image != RootImage::Cpio),
            modules,
            load,
            sets,
            cmdline: file.cmdline,
            firmware: file.firmware,
            firmware_skip: file.firmware_skip,
        })
    }

    pub(super) fn check_cmdline_word(&mut self, at: At, word: &str) {
        if word.is_empty() || word.contains(['\n', '\0']) {
            let expected = "a word of a kernel command line";
            self.report(at, Problem::BadValue { found: word.into(), expected, example: "console=ttyS0" });
        }
    }

    /// Bonds and VLANs need their modules, wherever the network comes up.
    pub(super) fn link_modules(&self, tree: &TomlNode, network: &Network, kernel: &mut Kernel) {
        let origin = self.origin(tree.get("network").map_or(tree.at, |node| node.at));
        for (needed, module) in [(!network.bonds.is_empty(), "bonding"), (!network.vlans.is_empty(), "8021q")] {
            for list in [Some(&mut kernel.modules), kernel.netroot.as_mut()].into_iter().flatten() {
                if needed && !list.iter().any(|request| request.text == module) {
                    list.push(ModuleRequest { text: module.into(), origin: origin.clone() });
                }
            }
        }
    }

    /// The root's file system is needed before anything of the root can be read, so its module need not be named.
    pub(super) fn root_module(&self, tree: &TomlNode, root: &Root, kernel: &mut Kernel) {
        let module = match root.image {
            RootImage::Squashfs => "squashfs",
            RootImage::Erofs => "erofs",
            RootImage::Cpio => return,
        };
        if !kernel.early.iter().any(|request| request.text == module) {
            let at = tree.get("root").map_or(tree.at, |node| node.at_of("image"));
            kernel.early.push(ModuleRequest { text: module.into(), origin: self.origin(at) });
        }
    }

    /// The list without what `exclude` names, with its sets laid open, each module once, in the order in which it is first named.
    fn modules(&mut self, kernel: &TomlNode, key: &str) -> Vec<ModuleRequest> {
        let mut out = Vec::new();
        if let Some(list) = kernel.get(key) {
            let excluded: Vec<&str> = texts(kernel, "exclude").collect();
            let mut list = list.clone();
            if let Value::List(items) = &mut list.value {
                items.retain(|item| item.text().is_none_or(|text| !excluded.contains(&text)));
            }
            self.expand(kernel, &list, &mut Vec::new(), &mut out);
        }
        out
    }

    /// What is excluded has to stand in a list, or it would hide a misspelled name.
    fn check_excluded(&mut self, kernel: &TomlNode) {
        let listed: Vec<&str> =
            ["early", "netroot", "modules", "load"].iter().flat_map(|key| texts(kernel, key)).collect();
        for item in kernel.get("exclude").map_or(&[][..], TomlNode::items) {
            if let Some(name) = item.text().filter(|name| !listed.contains(name)) {
                let known = listed.iter().map(|name| name.to_string()).collect();
                self.report(item.at, Problem::Unknown { what: "module of a list", name: name.into(), known });
            }
        }
    }

    /// What the machines of the files in `modaliases` ask for, each once.
    fn modaliases(&mut self, kernel: &TomlNode, files_read: &mut Vec<PathBuf>) -> Vec<ModuleRequest> {
        let patterns = kernel.get("modaliases").map_or(Vec::new(), |node| match node.text() {
            Some(_) => vec![node],
            None => node.items().iter().collect(),
        });
        let (on_disk, mut out) = (self.on_disk, Vec::<ModuleRequest>::new());
        for node in patterns.into_iter().filter(|_| on_disk) {
            let Some(text) = node.text() else { continue };
            let pattern = self.host_path(node.at, text);
            let files = match find_files(&pattern) {
                Ok(files) => files,
                Err(e) => {
                    let problem = Problem::BadGlob { pattern: text.into(), cause: e.kind().to_string() };
                    self.report(node.at, problem);
                    continue;
                }
            };
            if files.is_empty() {
                self.report(node.at, Problem::MissingPath { what: "a file of modaliases", path: pattern });
            }
            for file in files {
                let found = self.modalias_file(node.at, &file);
                files_read.push(file);
                let new = found.into_iter().filter(|m| !out.iter().any(|known| known.text == m.text));
                let new: Vec<ModuleRequest> = new.collect();
                out.extend(new);
            }
        }
        out
    }

    fn modalias_file(&mut self, at: At, path: &Path) -> Vec<ModuleRequest> {
        let file = shown(path);
        let problem = match crate::input_file::read_text(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                Problem::MissingPath { what: "a file of modaliases", path: path.into() }
            }
            Err(e) => Problem::Unreadable { path: path.into(), cause: e.to_string() },
            Ok(text) => match parse_modaliases(&file, &text) {
                Ok(found) => return found,
                Err(bad) => Problem::BadModalias { file, line: bad.line, found: bad.text },
            },
        };
        self.report(at, problem);
        Vec::new()
    }

    /// The list `netroot`, and the sets of the modes that this image may have; nothing of a RAM root.
    fn netroot(&mut self, kernel: &TomlNode, root: Option<&Root>) -> Option<Vec<ModuleRequest>> {
        let mut out = self.modules(kernel, "netroot");
        let root = root.filter(|root| root.mode.is_network())?;
        for mode in [root.mode].iter().chain(&root.choices) {
            let list = kernel.get("sets").and_then(|sets| sets.get(&format!("root-{mode}")));
            if let Some(list) = list {
                self.expand(kernel, list, &mut Vec::new(), &mut out);
            }
        }
        Some(out)
    }

    fn expand(&mut self, kernel: &TomlNode, list: &TomlNode, chain: &mut Vec<String>, out: &mut Vec<ModuleRequest>) {
        for item in list.items() {
            let Value::Text(text) = &item.value else { continue };
            match text.strip_prefix('@') {
                Some(set) => self.expand_set(kernel, item.at, set, chain, out),
                None if out.iter().any(|m| m.text == *text) => {}
                None if is_module(text) => out.push(ModuleRequest { text: text.clone(), origin: self.origin(item.at) }),
                None => {
                    let expected = "a module name, a set or a modalias pattern";
                    let problem = Problem::BadValue { found: text.clone(), expected, example: "virtio_net" };
                    self.report(item.at, problem);
                }
            }
        }
    }

    fn expand_set(
        &mut self,
        kernel: &TomlNode,
        at: At,
        set: &str,
        chain: &mut Vec<String>,
        out: &mut Vec<ModuleRequest>,
    ) {
        let sets = kernel.get("sets");
        let Some(list) = sets.and_then(|s| s.get(set)) else {
            let known = sets.map_or(&[][..], TomlNode::entries).iter().map(|e| e.key.clone()).collect();
            return self.report(at, Problem::Unknown { what: "module set", name: set.into(), known });
        };
        if let Some(start) = chain.iter().position(|c| c == set) {
            let chain = chain[start..].iter().cloned().chain([set.to_string()]).collect();
            return self.report(at, Problem::SetCycle { chain });
        }
        chain.push(set.to_string());
        self.expand(kernel, list, chain, out);
        chain.pop();
    }
}

/// A modalias pattern has a bus before a colon (`pci:v00008086d*`); a name is of letters, digits, `_` and `-`.
fn is_module(text: &str) -> bool {
    let name = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    match text.split_once(':') {
        Some((bus, rest)) => name(bus) && !rest.is_empty() && !text.contains(char::is_whitespace),
        None => name(text),
    }
}

/// The texts of a list.
fn texts<'a>(table: &'a TomlNode, key: &str) -> impl Iterator<Item = &'a str> {
    table.get(key).map_or(&[][..], TomlNode::items).iter().filter_map(TomlNode::text)
}
