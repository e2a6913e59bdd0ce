//! What every loader's files are made from: images, nodes and the words that each gets.

use super::segment::{self, NodeSegment, node_segment};
use super::{BootImage, ChainError, FOLDER};
use crate::cluster::join::JoinPlace;
use crate::emit::MANIFEST_WORD;
use crate::loader_limits::{COMMAND_LINE, LOADERS_WORDS};
use crate::nodes::{BootServer, MENU_WORDS, Menu, Node, Nodes};
use std::net::{IpAddr, Ipv4Addr};

/// Of an image's words and a node's together.
const CMDLINE_LIMIT: usize = COMMAND_LINE - LOADERS_WORDS;

/// All that emitters look at.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    pub server: &'a BootServer,
    pub menu: &'a Menu,
    pub images: &'a [BootImage],
    pub nodes: Vec<NodeEntry<'a>>,
    /// Taken by the menu when nobody chooses: an image, or one of [`MENU_WORDS`].
    pub default: String,
    /// Boot files are signed, and iPXE verifies them.
    pub signed: bool,
}

/// A node with its image and its own words.
#[derive(Debug, Clone)]
pub struct NodeEntry<'a> {
    pub node: &'a Node,
    pub image: &'a BootImage,
    pub segment: Option<NodeSegment>,
    /// What it adds to the image's kernel command line, but for `bw.root`.
    words: Vec<String>,
}

impl<'a> Plan<'a> {
    /// Joins nodes and images. `join`: where nodes ask for their certificates. `signed`: iPXE shall verify what it loads.
    ///
    /// # Errors
    /// An image that is not there, files that cannot be rendered, a command line that is too long.
    pub fn new(
        nodes: &'a Nodes,
        images: &'a [BootImage],
        join: Option<&JoinPlace>,
        signed: bool,
    ) -> Result<Self, ChainError> {
        let names = || images.iter().map(|image| image.name.clone()).collect::<Vec<_>>();
        let mut entries = Vec::new();
        for node in &nodes.nodes {
            let Some(image) = images.iter().find(|image| image.name == node.image) else {
                let (origin, name, image) = (node.origin.clone(), node.name.clone(), node.image.clone());
                return Err(ChainError::NoImage { origin, node: name, image, there: names() });
            };
            let segment = node_segment(node, join)?;
            let words = node_words(node, segment.as_ref());
            entries.push(NodeEntry { node, image, segment, words });
        }
        let wanted = nodes.menu.default.clone().or_else(|| nodes.image.clone());
        let default = wanted.unwrap_or_else(|| images[0].name.clone());
        if !MENU_WORDS.contains(&default.as_str()) && !images.iter().any(|image| image.name == default) {
            return Err(ChainError::NoDefault { found: default, there: names() });
        }
        let plan = Self { server: &nodes.server, menu: &nodes.menu, images, nodes: entries, default, signed };
        plan.check_lengths()?;
        Ok(plan)
    }

    fn check_lengths(&self) -> Result<(), ChainError> {
        let images = self.images.iter().map(|image| (&image.name, self.image_words(image)));
        let nodes = self.nodes.iter().map(|entry| (&entry.node.name, self.node_words(entry)));
        for (entry, words) in images.chain(nodes) {
            let length = words.join(" ").len();
            if length > CMDLINE_LIMIT {
                return Err(ChainError::CommandLine { entry: entry.clone(), length, limit: CMDLINE_LIMIT });
            }
        }
        Ok(())
    }

    /// Where nodes report to, if they shall.
    pub fn report_url(&self) -> Option<String> {
        let url = self.server.url.as_ref().filter(|_| self.server.report)?;
        Some(format!("{url}/report"))
    }

    /// What the server asks of all: `bw.report=`.
    pub fn server_words(&self) -> Vec<String> {
        self.report_url().map(|url| format!("bw.report={url}")).into_iter().collect()
    }

    /// The whole kernel command line of an image for loaders that have no script of the image's.
    pub fn image_words(&self, image: &BootImage) -> Vec<String> {
        let url = self.server.url.as_ref().filter(|_| image.root_from_us);
        let root = url.map(|url| format!("bw.root={url}/{}/root.img", image.name));
        [image.cmdline.clone(), root.into_iter().collect(), self.manifest_words(image), self.server_words()].concat()
    }

    /// Where what is signed of the image's root is: `bw.manifest=`.
    fn manifest_words(&self, image: &BootImage) -> Vec<String> {
        let url = self.server.url.as_ref().filter(|_| image.asks_for_manifest);
        url.map(|url| format!("{MANIFEST_WORD}{url}/{}/root.json", image.name)).into_iter().collect()
    }

    /// The same for a node.
    pub fn node_words(&self, entry: &NodeEntry<'_>) -> Vec<String> {
        let image = match entry.node.roots.is_empty() {
            true => self.image_words(entry.image),
            false => [entry.image.cmdline.clone(), self.manifest_words(entry.image), self.server_words()].concat(),
        };
        let roots = entry.node.roots.iter().map(|root| format!("bw.root={root}")).collect();
        [image, roots, entry.words.clone()].concat()
    }

    /// What the menus show of an image.
    pub fn title(image: &BootImage) -> String {
        let short = &image.image_id[..image.image_id.len().min(8)];
        format!("{} (image {short})", image.name)
    }
}

impl NodeEntry<'_> {
    /// What it adds to the image's words, but for `bw.root`.
    pub fn own_words(&self) -> &[String] {
        &self.words
    }

    /// What is said of secrets that are allowed in its files and words.
    pub fn secrets(&self) -> Option<String> {
        let reason = self.node.secrets.as_ref()?;
        let found = self.segment.as_ref().map(|s| s.secrets.join(", ")).filter(|found| !found.is_empty());
        let found = found.map(|found| format!("; found {found}")).unwrap_or_default();
        Some(format!("secrets are allowed for node `{}` ({}): {reason}{found}", self.node.name, self.node.origin))
    }

    /// Its own segment below `out/`.
    pub fn segment_path(&self) -> Option<String> {
        self.segment.as_ref().map(|_| format!("{FOLDER}/nodes/{}", segment::file_name(self.node)))
    }

    /// Kernel and initrds below `out/`.
    pub fn initrds(&self) -> Vec<String> {
        std::iter::once(format!("{}/initrd.img", self.image.name)).chain(self.segment_path()).collect()
    }
}

fn node_words(node: &Node, segment: Option<&NodeSegment>) -> Vec<String> {
    let mut words = vec![format!("bw.hostname={}", node.hostname)];
    words.extend(ip_word(node));
    words.extend(segment.map(|segment| format!("bw.node={}", segment.sums_sha256)));
    words.extend(node.cmdline.iter().cloned());
    words
}

/// `ip=` as the kernel has it (Documentation/admin-guide/nfs/nfsroot.rst), IPv6 in brackets as in dracut.cmdline(7).
fn ip_word(node: &Node) -> Option<String> {
    let address = node.address?;
    let shown = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let mask = match address.ip {
        IpAddr::V4(_) => Ipv4Addr::from(u32::MAX << (32 - u32::from(address.prefix))).to_string(),
        IpAddr::V6(_) => address.prefix.to_string(),
    };
    let gateway = node.gateway.map(shown).unwrap_or_default();
    // No device: BOOTIF names the card.
    let mut word = format!("ip={}::{gateway}:{mask}:{}::none", shown(address.ip), node.hostname);
    for server in node.dns.iter().take(2) {
        word.push(':');
        word.push_str(&shown(*server));
    }
    Some(word)
}
