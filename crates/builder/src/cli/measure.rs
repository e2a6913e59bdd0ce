//! `bootwright measure`

use super::inspect::ImageArgs;
use super::smoke::parse_mac_argument;
use crate::entry::Sha256;
use crate::error::Failure;
use crate::measure::{CommandLine, Measurements, load_measurements, load_options_sha256};
use crate::nodes::Mac;
use clap::Args;
use serde::Serialize;
use std::fmt::Write;

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct MeasureArgs {
    #[command(flatten)]
    pub image: ImageArgs,
    /// MAC address of the card that the machine boots from: its command line is measured too
    #[arg(long, value_name = "MAC", value_parser = parse_mac_argument)]
    pub mac: Option<Mac>,
    /// A variable that the machine's own iPXE script sets, such as bw-root or bw-args; may be repeated
    #[arg(long = "variable", value_name = "NAME=VALUE", value_parser = super::parse_set, requires = "mac")]
    pub variables: Vec<(String, String)>,
    /// Machine-readable result
    #[arg(long)]
    pub json: bool,
}

const AFTER_HELP: &str = "The values are those of `measurements.json` in the image's folder. The command line differs from machine to machine, by\n\
`BOOTIF=`: name the card with --mac, and what the machine's own script sets with --variable, as in\n\
--variable 'bw-args=quiet ip=dhcp'. docs/measurements.md says where each value is found.";

/// The result for scripts.
#[derive(Serialize)]
struct MeasureDocument<'a> {
    #[serde(flatten)]
    measurements: &'a Measurements,
    /// With `--mac`.
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<Machine>,
}

/// The command line of one machine.
#[derive(Serialize)]
struct Machine {
    text: String,
    sha256: Sha256,
}

pub fn run(args: &MeasureArgs) -> Result<(), Failure> {
    let measurements = load_measurements(&args.image.dir())?;
    let machine = args.mac.map(|mac| machine(&measurements.command_line, mac, &args.variables)).transpose()?;
    let document = MeasureDocument { measurements: &measurements, machine };
    if args.json { super::print_json(&document) } else { super::print_out(&text(&document)) }
}

fn machine(line: &CommandLine, mac: Mac, variables: &[(String, String)]) -> Result<Machine, Failure> {
    if let Some((unknown, _)) = variables.iter().find(|(name, _)| !line.has(name)) {
        let message = format!("the command line of this image has no variable `{unknown}`");
        return Err(super::usage(&message, &format!("it is `{}`", line.text)));
    }
    let text = line.of_machine(mac, variables);
    Ok(Machine { sha256: load_options_sha256(&text), text })
}

/// One line a value: its PCR, what it is a hash of, the hash.
fn text(document: &MeasureDocument<'_>) -> String {
    let MeasureDocument { measurements: of, machine } = document;
    let mut text = format!("{}, image {}\n", of.recipe, of.image_id);
    let mut add = |pcr: u32, what: &str, hash: &dyn std::fmt::Display| {
        // Writing to a string never fails.
        let _ = writeln!(text, "  PCR {pcr:<2}  {what:<12}  {hash}");
    };
    match &of.kernel {
        Some(kernel) => add(kernel.pcr, &kernel.path, &kernel.authenticode_sha256),
        None => add(4, "vmlinuz", &"is no EFI program"),
    }
    add(of.initrd.pcr, &of.initrd.path, &of.initrd.sha256);
    match machine {
        Some(machine) => {
            add(of.command_line.pcr, "command line", &machine.sha256);
            text + "command line: " + &machine.text + "\n"
        }
        None => text + "command line: " + &of.command_line.text + "\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;
    use crate::measure::MeasuredFile;

    #[test]
    fn each_value_has_a_line_and_unknown_variables_are_refused() {
        let line = CommandLine::of_ipxe("vmlinuz BOOTIF=01-${netX/mac:hexhyp} ${bw-args}".into());
        let measurements = Measurements {
            version: 1,
            recipe: "tiny".into(),
            image_id: "0123".into(),
            kernel: None,
            initrd: MeasuredFile::initrd("initrd.img", Sha256::of(b"initrd")),
            command_line: line.clone(),
        };
        let mac = parse_mac_argument("52:54:00:00:00:10").unwrap();
        let set = |name: &str| [(name.to_string(), "quiet".to_string())];
        let machine = machine(&line, mac, &set("bw-args")).unwrap();
        let told = text(&MeasureDocument { measurements: &measurements, machine: Some(machine) });
        let (initrd, words) = (Sha256::of(b"initrd"), "vmlinuz BOOTIF=01-52-54-00-00-00-10 quiet");
        assert_eq!(
            told,
            format!(
                "tiny, image 0123\n  PCR 4   vmlinuz       is no EFI program\n  PCR 9   initrd.img    {initrd}\n  \
                 PCR 9   command line  {}\ncommand line: {words}\n",
                load_options_sha256(words)
            )
        );
        let told = text(&MeasureDocument { measurements: &measurements, machine: None });
        assert!(told.ends_with("\ncommand line: vmlinuz BOOTIF=01-${netX/mac:hexhyp} ${bw-args}\n"), "{told}");
        let failure = super::machine(&line, mac, &set("bw-arg")).err().unwrap();
        assert_eq!((failure.exit, failure.message.contains("`bw-arg`")), (Exit::Usage, true));
    }
}
