//! `bootwright smoke`

use super::{OutArgs, RecipeArgs};
use crate::error::{Exit, Failure};
use crate::nodes::{Mac, parse_mac, parse_uuid};
use crate::recipe::{CheckedRecipe, Expectation, RootMode, load_recipe};
use crate::smoke::{self, AccelChoice, Firmware, SmokeError, SmokeOptions, SmokeReport, Via};
use crate::ui::{self, Ui};
use clap::Args;
use std::path::Path;
use std::time::Duration;

#[derive(Debug, Args)]
pub struct SmokeArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    #[command(flatten)]
    pub out: OutArgs,
    #[command(flatten)]
    pub machine: MachineArgs,
    /// How kernel and initrd get into the machine
    #[arg(long, value_enum, default_value = "kernel")]
    pub via: Via,
    /// The machine's firmware
    #[arg(long, value_enum, default_value = "bios")]
    pub firmware: Firmware,
    /// With --via ipxe: what DHCP names instead of the image's own script; an address, in which this machine is 10.0.2.2, or a path
    /// below --out, by TFTP
    #[arg(long, value_name = "URL|PATH")]
    pub bootfile: Option<String>,
    /// MAC address of the machine's card
    #[arg(long, value_name = "MAC", value_parser = parse_mac_argument)]
    pub mac: Option<Mac>,
    /// UUID of the machine's firmware (SMBIOS), by which nodes.toml may know it
    #[arg(long, value_name = "UUID", value_parser = parse_uuid_argument)]
    pub uuid: Option<String>,
    /// Press the power button at the end, and expect an orderly end
    #[arg(long, conflicts_with_all = ["keep", "min_ram"])]
    pub powerdown: bool,
    /// Leave the machine running until Ctrl-C, with its console here, also one that failed
    #[arg(long, conflicts_with = "min_ram")]
    pub keep: bool,
    /// Find the smallest RAM that does, from --ram-mib down
    #[arg(long)]
    pub min_ram: bool,
    /// Accuracy of --min-ram in MiB
    #[arg(long, value_name = "MIB", default_value = "16", value_parser = clap::value_parser!(u32).range(1..=64), requires = "min_ram")]
    pub step_mib: u32,
    /// Machine-readable result, also of a boot that failed
    #[arg(long)]
    pub json: bool,
}

/// The machine, and how far it has to get; `trace` asks the same.
#[derive(Debug, Args)]
pub struct MachineArgs {
    /// RAM of the machine in MiB [default: the recipe's]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(16..))]
    pub ram_mib: Option<u32>,
    /// CPUs of the machine [default: the recipe's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub smp: Option<u32>,
    /// What runs the guest; auto takes KVM where it really boots the kernel
    #[arg(long, value_enum, default_value = "auto")]
    pub accel: AccelChoice,
    /// Stop at this expectation: phases-done, ssh-answers, service:NAME
    #[arg(long, value_name = "NAME", value_parser = parse_until)]
    pub until: Option<Expectation>,
    /// Seconds for all expectations together [default: the recipe's]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..))]
    pub deadline_s: Option<u32>,
    /// More words for the kernel command line of this boot
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub append: Vec<String>,
}

/// Boots the recipe's image; `cache_dir` remembers that KVM does not work here.
pub fn run(args: &SmokeArgs, cache_dir: &Path, ui: &Ui) -> Result<(), Failure> {
    let recipe = load_recipe(&args.recipe.recipe, &args.recipe.sets, args.recipe.root)?;
    let image_dir = args.out.out.join(recipe.image_name());
    let options = options_of(args, &recipe, cache_dir)?;
    if args.min_ram {
        let found = smoke::find_min_ram(&image_dir, &options, args.step_mib, ui)?;
        ui.say(format!("`{}` gets there with {} MiB", found.recipe, found.min_ram_mib));
        return if args.json { super::print_json(&found) } else { Ok(()) };
    }
    let result = smoke::run_smoke(&image_dir, &options, ui);
    if args.json {
        match &result {
            Ok(report) => super::print_json(report)?,
            Err(SmokeError::Failed(failed)) => super::print_json(&failed.report)?,
            Err(_) => {}
        }
    }
    match result {
        Ok(mut report) => {
            say_passed(&report, ui);
            hold(&mut report, ui);
            Ok(())
        }
        Err(SmokeError::Failed(mut failed)) if failed.report.kept.is_some() => {
            ui::print(format!("error: {failed}\n  help: {}", failed.help()));
            hold(&mut failed.report, ui);
            let message =
                format!("smoke boot of `{}` failed in {}: {}", failed.report.recipe, failed.stage, failed.why);
            let help = format!("what it said before it was kept is in {}", logs_of(&failed.report).display());
            Err(Failure { exit: Exit::SmokeFailed, message, help: Some(help) })
        }
        Err(error) => Err(error.into()),
    }
}

/// Says how to look inside of a machine that was kept, and returns when it has ended.
fn hold(report: &mut SmokeReport, ui: &Ui) {
    let Some(machine) = report.kept.take() else { return };
    if let (Some(port), Some(qmp)) = (report.ssh_port, &report.qmp_socket) {
        ui.say(format!(
            "  it goes on; its console follows, and takes what you type. Ctrl-C ends it.\n  ssh -p {port} root@127.0.0.1\n  \
             QEMU's monitor (QMP): {}\n  logs so far: {}",
            qmp.display(),
            logs_of(report).display()
        ));
    }
    machine.hold(ui);
}

fn logs_of(report: &SmokeReport) -> &Path {
    report.console_log.parent().unwrap_or(&report.console_log)
}

fn options_of(args: &SmokeArgs, recipe: &CheckedRecipe, cache_dir: &Path) -> Result<SmokeOptions, Failure> {
    if args.bootfile.is_some() && args.via != Via::Ipxe {
        return Err(super::usage("--bootfile is for machines that boot over the network", "add --via ipxe"));
    }
    Ok(SmokeOptions {
        via: args.via,
        firmware: args.firmware,
        bootfile: args.bootfile.clone(),
        mac: args.mac,
        uuid: args.uuid.clone(),
        powerdown: args.powerdown,
        keep: args.keep,
        ..args.machine.options(recipe, cache_dir)?
    })
}

impl MachineArgs {
    /// A boot from kernel and initrd, with what the recipe says where nothing else is asked for.
    pub fn options(&self, recipe: &CheckedRecipe, cache_dir: &Path) -> Result<SmokeOptions, Failure> {
        let wanted = &recipe.smoke;
        if let Some(Expectation::Service(name)) = &self.until
            && recipe.services.iter().all(|service| service.name != *name)
        {
            let known: Vec<String> = recipe.services.iter().map(|service| format!("`{}`", service.name)).collect();
            let message = format!("`{}` has no service `{name}` to wait for", recipe.name);
            return Err(super::usage(&message, &format!("there are {}", known.join(", "))));
        }
        let expect = match &self.until {
            Some(until) => smoke::expect_until(&wanted.expect, until),
            None => wanted.expect.clone(),
        };
        if expect.is_empty() {
            return Err(Failure {
                exit: Exit::Usage,
                message: format!("`{}` expects nothing of a smoke boot", recipe.name),
                help: Some("list what it should reach in [smoke] expect, or name one expectation with --until".into()),
            });
        }
        Ok(SmokeOptions {
            recipe: recipe.image_name(),
            fetched_root: recipe.root.mode == RootMode::Http && !recipe.root.names_sources,
            expect,
            kernel_cmdline: recipe.kernel.cmdline.clone(),
            smoke_cmdline: wanted.cmdline.iter().chain(&self.append).cloned().collect(),
            ram_mib: self.ram_mib.unwrap_or(wanted.ram_mib),
            smp: self.smp.unwrap_or(wanted.smp),
            deadline: Duration::from_secs(self.deadline_s.unwrap_or(wanted.deadline_s).into()),
            via: Via::Kernel,
            firmware: Firmware::Bios,
            bootfile: None,
            mac: None,
            uuid: None,
            accel: self.accel,
            powerdown: false,
            keep: false,
            keep_logs: false,
            cache_dir: cache_dir.into(),
        })
    }
}

fn parse_until(text: &str) -> Result<Expectation, String> {
    text.parse()
}

pub(super) fn parse_mac_argument(text: &str) -> Result<Mac, String> {
    parse_mac(text).ok_or_else(|| "expected the MAC address of a card, such as 52:54:00:12:34:56".into())
}

fn parse_uuid_argument(text: &str) -> Result<String, String> {
    parse_uuid(text).ok_or_else(|| "expected a UUID, such as 0e3c1a5b-0000-4000-8000-0123456789ab".into())
}

fn say_passed(report: &SmokeReport, ui: &Ui) {
    ui.say(format!("`{}` passed in {:.1} s; logs in {}", report.recipe, report.wall_s, logs_of(report).display()));
}
