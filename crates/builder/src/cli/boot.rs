//! `bootwright boot`

use super::OutArgs;
use crate::chain::{self, Signer, WrittenChain};
use crate::error::Failure;
use crate::loader_limits::check_grub_server;
use crate::nodes::{Nodes, load_nodes, parse_server_url};
use crate::ui::Ui;
use clap::Args;
use std::path::PathBuf;

/// Looked for when no file is named.
pub(super) const NODES: &str = "nodes.toml";

#[derive(Debug, Args)]
pub struct BootArgs {
    #[command(flatten)]
    pub chain: ChainArgs,
    /// Machine-readable result
    #[arg(long)]
    pub json: bool,
}

/// What the boot chain is made from; `serve` takes it too.
#[derive(Debug, Args)]
pub struct ChainArgs {
    #[command(flatten)]
    pub out: OutArgs,
    /// Which machine boots what [default: nodes.toml, if it is there]
    #[arg(short, long, value_name = "FILE")]
    pub nodes: Option<PathBuf>,
    /// Address under which machines find the folder of images, http://HOST[:PORT][/PATH] [default: as nodes.toml says]
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    pub url: Option<String>,
    /// Sign what iPXE loads, for its imgverify: a code signing certificate that your iPXE trusts, PEM
    #[arg(long, value_name = "FILE", requires = "codesign_key")]
    pub codesign_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "codesign_cert")]
    pub codesign_key: Option<PathBuf>,
}

impl ChainArgs {
    /// The nodes, with what the command line says over them.
    pub fn load(&self) -> Result<Nodes, Failure> {
        let default = PathBuf::from(NODES);
        let mut nodes = match &self.nodes {
            Some(path) => load_nodes(path)?,
            None if default.exists() => load_nodes(&default)?,
            None => Nodes::default(),
        };
        if self.url.is_some() {
            nodes.server.url = self.url.clone();
        }
        Ok(nodes)
    }

    /// Writes the boot chain.
    pub fn write(&self, nodes: &Nodes, ui: &Ui) -> Result<WrittenChain, Failure> {
        let files = self.codesign_cert.clone().zip(self.codesign_key.clone());
        let signer = files.map(|(certificate, key)| Signer { certificate, key });
        Ok(chain::write_chain(nodes, &self.out.out, signer.as_ref(), ui)?)
    }
}

/// Writes `out/boot/` and prints what is in it.
pub fn run(args: &BootArgs, ui: &Ui) -> Result<(), Failure> {
    let nodes = args.chain.load()?;
    let written = args.chain.write(&nodes, ui)?;
    if args.json {
        return super::print_json(&written.index);
    }
    super::print_out(&text(&nodes, &written))
}

fn text(nodes: &Nodes, written: &WrittenChain) -> String {
    let dir = written.dir.display();
    let images: Vec<&str> = written.images.iter().map(|image| image.name.as_str()).collect();
    let mut text = format!("{dir}: images {}; {} nodes\n", images.join(", "), written.index.nodes.len());
    match &nodes.server.url {
        Some(url) => text.push_str(&format!("iPXE chains to {url}/{}/boot.ipxe\n", chain::FOLDER)),
        None => text.push_str("no dnsmasq.conf: [server] url or --url says under which address machines find it\n"),
    }
    if let Some(lint) = nodes.server.url.as_deref().and_then(check_grub_server) {
        text.push_str(&format!("warning: {}\n  help: {}\n", lint.message, lint.help));
    }
    text
}

fn parse_url(text: &str) -> Result<String, String> {
    parse_server_url(text).ok_or_else(|| "expected http://HOST[:PORT][/PATH]".into())
}
