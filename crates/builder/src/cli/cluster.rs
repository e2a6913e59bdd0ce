//! `bootwright cluster`

use super::OutArgs;
use crate::chain::load_images;
use crate::cluster::{AddOptions, MANIFESTS, Version, plan};
use crate::error::Failure;
use crate::nodes::{is_api_server, is_hostname, load_nodes};
use crate::ui::Ui;
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Make what `serve` needs in a cluster so that nodes join it, and write `[cluster]` into nodes.toml; shows it first
    Add(Box<AddArgs>),
    /// Print what `add` makes in the cluster, as YAML
    Manifests,
}

#[derive(Debug, Args)]
pub struct AddArgs {
    /// A name for the cluster
    #[arg(value_parser = parse_name)]
    pub name: String,
    /// Login of the cluster's administrator, such as a control plane's /etc/kubernetes/admin.conf; it is not kept
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// Its context [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// API server as nodes reach it, https://HOST:PORT; repeat for several [default: the kubeconfig's]
    #[arg(long = "server", value_name = "URL", value_parser = parse_server)]
    pub servers: Vec<String>,
    /// Address of the cluster's DNS; may be repeated [default: as the cluster says]
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<IpAddr>,
    /// DNS domain of the cluster [default: as the cluster says, else cluster.local]
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub domain: Option<String>,
    /// The file that gets `[cluster]`
    #[arg(short, long, value_name = "FILE", default_value = super::boot::NODES)]
    pub nodes: PathBuf,
    /// Folder for the ServiceAccount's credential and the signing key [default: .bootwright beside nodes.toml]
    #[arg(long, value_name = "DIR")]
    pub credentials: Option<PathBuf>,
    #[command(flatten)]
    pub out: OutArgs,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

pub fn run(command: &ClusterCommand, ui: &Ui) -> Result<(), Failure> {
    match command {
        ClusterCommand::Add(args) => add(args, ui),
        ClusterCommand::Manifests => super::print_out(MANIFESTS),
    }
}

fn add(args: &AddArgs, ui: &Ui) -> Result<(), Failure> {
    let options = AddOptions {
        name: args.name.clone(),
        kubeconfig: args.kubeconfig.clone(),
        context: args.context.clone(),
        servers: args.servers.clone(),
        dns: args.dns.clone(),
        domain: args.domain.clone(),
        nodes: args.nodes.clone(),
        credentials: args.credentials.clone(),
        out: args.out.out.clone(),
    };
    let plan = plan(&options, &kubelets(&args.nodes, &args.out.out)?)?;
    ui.say(plan.describe());
    plan.warnings.iter().for_each(|warning| ui.say(warning));
    if !args.yes && !agreed()? {
        return super::print_out("nothing was made\n");
    }
    plan.carry_out()?;
    let text = format!(
        "`{}` is added: start `bootwright serve` anew, and boot the machines of `{}`\n",
        args.name,
        args.nodes.display()
    );
    super::print_out(&text)
}

/// Versions of the kubelets in the images that nodes.toml boots; in all images, where it names none.
fn kubelets(nodes: &Path, out: &Path) -> Result<BTreeMap<String, Version>, Failure> {
    let named: Vec<String> = match nodes.exists() {
        true => {
            let nodes = load_nodes(nodes)?;
            nodes.nodes.into_iter().map(|node| node.image).chain(nodes.image).collect()
        }
        false => Vec::new(),
    };
    // Without images there is nothing to compare yet: `serve` does it again.
    let images = load_images(out).unwrap_or_default();
    let images = images.into_iter().filter(|image| named.is_empty() || named.contains(&image.name));
    Ok(images.filter_map(|image| Some((image.name, image.kubelet?))).collect())
}

/// Asks at the terminal.
fn agreed() -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(super::usage("nobody can be asked here whether to make this", "agree to it with --yes"));
    }
    let mut answer = String::new();
    let asked =
        write!(anstream::stderr(), "make all this? [y/N] ").and_then(|()| std::io::stdin().read_line(&mut answer));
    Ok(asked.is_ok() && ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

fn parse_name(text: &str) -> Result<String, String> {
    match is_hostname(text) {
        true => Ok(text.into()),
        false => Err("expected letters, digits, `.` and `-`".into()),
    }
}

fn parse_server(text: &str) -> Result<String, String> {
    match is_api_server(text) {
        true => Ok(text.into()),
        false => Err("expected https://HOST[:PORT]".into()),
    }
}
