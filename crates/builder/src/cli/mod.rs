//! The command line: thin commands that parse, call the library and render.

pub mod addons;
pub mod addr2line;
pub mod boot;
pub mod budget;
pub mod build;
pub mod check;
pub mod cluster;
pub mod diff;
pub mod doctor;
pub mod explain;
pub mod inspect;
pub mod keygen;
pub mod lock;
pub mod measure;
pub mod schema;
pub mod serve;
pub mod smoke;
pub mod sources;
pub mod trace;
pub mod vendor;

use crate::cache::Cache;
use crate::error::{Exit, Failure};
use crate::fetch::{Settings, VendorDir};
use crate::module_signing::ModuleSigner;
use crate::pipeline::Options;
use crate::recipe::RootMode;
use crate::source::deb::snapshot::DEBIAN;
use crate::ui::{Ui, Verbosity, printable};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Minimal netboot images for diskless machines: recipes in, kernel and initrd out, budgets enforced.
#[derive(Debug, Parser)]
#[command(name = "bootwright", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "Exit codes: 0 done, 1 other, 2 usage or recipe, 3 source or network, 4 over budget, 5 smoke test failed.\n\
Start with `bootwright doctor`, then `bootwright build --recipe rescue` and `bootwright smoke --recipe rescue`.";

#[derive(Debug, Args)]
struct Global {
    /// Say more (-v)
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
    /// Say only errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// When to colour
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    color: Color,
    /// Cache folder [default: $XDG_CACHE_HOME/bootwright or ~/.cache/bootwright]
    #[arg(long, global = true, env = "BOOTWRIGHT_CACHE", value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Parallel jobs [default: number of processors]
    #[arg(short, long, global = true, value_name = "N")]
    jobs: Option<std::num::NonZeroUsize>,
    /// Use only what the cache holds
    #[arg(long, global = true)]
    offline: bool,
    /// Debian mirror, such as http://mirror.example/debian; repeat to try several [default: the host's apt configuration]
    #[arg(long = "mirror", global = true, env = "BOOTWRIGHT_MIRROR", value_delimiter = ',', value_name = "URL")]
    mirrors: Vec<String>,
    /// Archive that is asked for Debian packages which no mirror has any more; `none`: nothing is
    #[arg(long, global = true, env = "BOOTWRIGHT_SNAPSHOT", value_name = "URL", default_value = DEBIAN, value_parser = parse_snapshot)]
    snapshot: Snapshot,
}

/// The value of `--snapshot`.
#[derive(Debug, Clone)]
struct Snapshot(Option<String>);

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

/// What most commands ask: which recipe, with which variables.
#[derive(Debug, Clone, Args)]
pub struct RecipeArgs {
    /// Recipe: a name below recipes/, or a path
    #[arg(short, long, value_name = "NAME|PATH", default_value = "worker")]
    pub recipe: String,
    /// Set a recipe variable; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_set)]
    pub sets: Vec<(String, String)>,
    /// Where the root is when the machine runs [default: the recipe's `[root] mode`]
    #[arg(long, value_enum, value_name = "MODE")]
    pub root: Option<RootMode>,
}

/// Where images are written.
#[derive(Debug, Clone, Args)]
pub struct OutArgs {
    /// Folder of images; the image goes to DIR/<recipe>/, that of a network root to DIR/<recipe>-<root>/
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    pub out: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a recipe; all problems are reported at once
    Check {
        #[command(flatten)]
        recipe: RecipeArgs,
        /// Machine-readable result
        #[arg(long)]
        json: bool,
    },
    /// Pin every source of a recipe, and show what changed
    Lock(lock::LockArgs),
    /// Build an image into out/<recipe>/
    Build(build::BuildArgs),
    /// Show how a machine's memory is shared with an image, term by term, and what is left for pods
    Budget(budget::BudgetArgs),
    /// Write all that a lock pins into a folder, from which `build --locked --vendor DIR` needs no network
    Vendor(vendor::VendorArgs),
    /// Write what boot servers need for the images in out/: iPXE, PXELINUX, GRUB, dnsmasq, matchbox
    Boot(boot::BootArgs),
    /// Show what an image holds: by component and segment, largest first; also any other initrd
    Inspect(inspect::InspectArgs),
    /// Tell what grew or shrank between two images, or any two initrds
    Diff(diff::DiffArgs),
    /// Show what a boot of an image by UEFI leaves in the event log of a TPM
    Measure(measure::MeasureArgs),
    /// Boot an image in QEMU and wait for its expectations
    Smoke(smoke::SmokeArgs),
    /// Boot an image in QEMU and tell which of its files are never opened
    Trace(trace::TraceArgs),
    /// Serve out/ to a lab: HTTP, DHCP and TFTP by dnsmasq, and a page that shows images and nodes
    Serve(serve::ServeArgs),
    /// Have nodes of nodes.toml join a Kubernetes cluster
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Collect the sources and licence texts of an image's copyleft parts, for who gives it away
    Sources(sources::SourcesArgs),
    /// List the host tools that recipes need, and how to install the missing ones
    Doctor(doctor::DoctorArgs),
    /// Tell which recipe line or dependency put a file into an image
    Explain(explain::ExplainArgs),
    /// Tell what add-ons of a cluster need that an image lacks, and which recipe lines bring it
    Addons(addons::AddonsArgs),
    /// Name the line of PID1 that an address on a console stands for
    Addr2line(addr2line::Addr2lineArgs),
    /// Make a key pair that signs root images
    Keygen(keygen::KeygenArgs),
    /// Print the JSON schema of recipes
    Schema {
        /// That of nodes.toml instead
        #[arg(long)]
        nodes: bool,
    },
    /// Print a completion script
    Completions {
        /// Shell to complete for
        shell: clap_complete::Shell,
    },
}

/// Parses the command line and runs it.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let command = Cli::command().color(color_of_help(&arguments));
    let parsed = command.try_get_matches_from(arguments).and_then(|found| Cli::from_arg_matches(&found));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(e) => {
            let code = if e.use_stderr() { Exit::Usage } else { Exit::Done };
            // Nothing to do when standard output is closed.
            let _ = e.print();
            return ExitCode::from(code as u8);
        }
    };
    match cli.global.color {
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
        Color::Auto => {}
    }
    match dispatch(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            crate::ui::print(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// `--color` as far as clap needs it: it prints help and usage errors before it has parsed the command line.
fn color_of_help(arguments: &[OsString]) -> clap::ColorChoice {
    let mut asked = None;
    for (i, argument) in arguments.iter().enumerate() {
        match argument.to_str().and_then(|text| text.strip_prefix("--color")) {
            Some("") => asked = arguments.get(i + 1).and_then(|value| value.to_str()),
            Some(rest) => asked = rest.strip_prefix('='),
            None => {}
        }
    }
    asked.and_then(|when| when.parse().ok()).unwrap_or_default()
}

fn dispatch(cli: &Cli) -> Result<(), Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Check { recipe, json } => check::check(recipe, *json),
        Command::Lock(args) => lock::run(args, &global.options(&args.recipe)?),
        Command::Build(args) => {
            let mut options = global.options(&args.recipe)?;
            if let Some(dir) = &args.vendor {
                options.settings.vendor = Some(VendorDir::open(dir)?);
                options.settings.offline = true;
            }
            if let (Some(key), Some(certificate)) = (&args.module_key, &args.module_cert) {
                options.signer = Some(ModuleSigner::load(key, certificate)?);
            }
            build::run(args, &options)
        }
        Command::Budget(args) => budget::run(args, &global.options(&args.recipe)?),
        Command::Vendor(args) => vendor::run(args, &global.options(&args.recipe)?),
        Command::Boot(args) => boot::run(args, &global.ui()),
        Command::Inspect(args) => inspect::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Measure(args) => measure::run(args),
        Command::Smoke(args) => smoke::run(args, &global.cache_dir()?, &global.ui()),
        Command::Trace(args) => trace::run(args, &global.cache_dir()?, &global.ui()),
        Command::Serve(args) => serve::run(args, global.ui()),
        Command::Cluster(command) => cluster::run(command, &global.ui()),
        Command::Sources(args) => sources::run(args, &global.options(&args.recipe)?),
        Command::Doctor(args) => doctor::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Addons(args) => addons::run(args, || global.options(&args.recipe)),
        Command::Addr2line(args) => addr2line::run(args),
        Command::Keygen(args) => keygen::run(args),
        Command::Schema { nodes } => schema::schema(*nodes),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "bootwright", &mut script);
            print_out(&String::from_utf8_lossy(&script))
        }
    }
}

impl Global {
    fn ui(&self) -> Ui {
        let verbosity = match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        Ui { verbosity, bars: std::io::IsTerminal::is_terminal(&std::io::stderr()) }
    }

    /// What building and locking need from these flags.
    fn options(&self, recipe: &RecipeArgs) -> Result<Options, Failure> {
        let jobs = self.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, |n| n.get());
        Ok(Options {
            recipe: recipe.recipe.clone(),
            sets: recipe.sets.clone(),
            root: recipe.root,
            cache: Cache::open(&self.cache_dir()?)?,
            settings: Settings {
                offline: self.offline,
                mirrors: self.mirrors.clone(),
                snapshot: self.snapshot.0.clone(),
                jobs,
                ..Settings::default()
            },
            signer: None,
            ui: self.ui(),
        })
    }

    fn cache_dir(&self) -> Result<PathBuf, Failure> {
        if let Some(dir) = &self.cache {
            return Ok(dir.clone());
        }
        let below = |base: std::ffi::OsString, rest: &str| (!base.is_empty()).then(|| PathBuf::from(base).join(rest));
        let xdg = std::env::var_os("XDG_CACHE_HOME").and_then(|base| below(base, "bootwright"));
        let home = || std::env::var_os("HOME").and_then(|base| below(base, ".cache/bootwright"));
        xdg.or_else(home).ok_or_else(|| Failure {
            exit: Exit::Usage,
            message: "no cache folder: neither `XDG_CACHE_HOME` nor `HOME` is set".into(),
            help: Some("name one with --cache DIR".into()),
        })
    }
}

fn parse_set(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

fn parse_snapshot(text: &str) -> Result<Snapshot, String> {
    let address = text.trim_end_matches('/');
    let host = address.strip_prefix("http://").or(address.strip_prefix("https://"));
    match host {
        // An empty variable of the environment says nothing.
        _ if text.is_empty() => Ok(Snapshot(Some(DEBIAN.into()))),
        _ if text == "none" => Ok(Snapshot(None)),
        Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => Ok(Snapshot(Some(address.into()))),
        _ => Err("expected the address of a snapshot archive, http:// or https://, or `none`".into()),
    }
}

/// A failure of usage.
fn usage(message: &str, help: &str) -> Failure {
    Failure { exit: Exit::Usage, message: message.into(), help: Some(help.into()) }
}

/// Prints a document for scripts on standard output.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure {
        exit: Exit::Other,
        message: format!("cannot write JSON: {e}"),
        help: None,
    })?;
    print_out(&(text + "\n"))
}

/// Prints a result on standard output. A reader that has seen enough (`| head`) is no error.
pub(crate) fn print_out(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout();
    match out.write_all(printable(text).as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure {
            exit: Exit::Other,
            message: format!("cannot write the result to standard output: {e}"),
            help: Some("check where it is redirected to".into()),
        }),
        _ => Ok(()),
    }
}
