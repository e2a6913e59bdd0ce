//! Phase `config`: reads the boot config of the image, and applies the kernel command line to it.

use crate::base::node::Node;
use crate::base::timeline::Timeline;
use crate::boot::memory;
use crate::boot::parameters::remove_ineffective;
use bootwright_base::Failure;
use bootwright_base::cmdline::Cmdline;
use bootwright_base::sys::Sys;
use bootwright_contract::json::{self, JsonError};
use bootwright_contract::{BootConfig, CONTRACT_VERSION, paths};
use std::fs;
use std::io;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
enum ConfigError {
    #[error(
        "the config segment is missing or truncated: cannot read `{path}`: {source}; \
         give the machine more RAM or check the boot loader's initrd list",
        path = paths::BOOT_CONFIG
    )]
    Missing { source: io::Error },
    #[error(
        "the config segment is truncated or of another version: `{path}`: {source}; \
         give the machine more RAM or build the image again with one version of the tool",
        path = paths::BOOT_CONFIG
    )]
    Parse { source: JsonError },
    #[error("`{path}` has version {found}, this PID1 reads {expected}", path = paths::BOOT_CONFIG)]
    Version { found: u32, expected: u32 },
}

/// Phase `config`.
///
/// # Errors
/// [`ConfigError`]
pub fn load_boot_config(mut cmdline: Cmdline, timeline: Arc<Timeline>, sys: &'static dyn Sys) -> Result<Node, Failure> {
    let bytes = fs::read(paths::BOOT_CONFIG).map_err(|source| ConfigError::Missing { source })?;
    let config = parse_config(&bytes)?;
    timeline.set_image(&config.recipe, &config.image_id);
    for note in remove_ineffective(&mut cmdline) {
        timeline.note(&note);
    }
    if config.zram.is_none() && cmdline.value("bw.zram_mib").is_some() {
        timeline.note("bw.zram_mib needs an image with zram");
    }
    let mut node = Node::new(override_config(config, &cmdline), cmdline, timeline, sys);
    memory::share_out(&mut node);
    Ok(node)
}

fn parse_config(bytes: &[u8]) -> Result<BootConfig, ConfigError> {
    let config: BootConfig = json::from_slice(bytes).map_err(|source| ConfigError::Parse { source })?;
    match config.version {
        CONTRACT_VERSION => Ok(config),
        found => Err(ConfigError::Version { found, expected: CONTRACT_VERSION }),
    }
}

/// The config as the command line changes it. Keys of the network are applied by `netconf`.
fn override_config(mut config: BootConfig, cmdline: &Cmdline) -> BootConfig {
    if let Some(size) = cmdline.value("bw.overlay_size") {
        config.root.overlay_size = size.into();
    }
    if let Some(kib) = cmdline.value("bw.read_ahead_kb").and_then(|v| v.parse().ok()) {
        config.root.read_ahead_kb = Some(kib);
    }
    match (cmdline.value("bw.zram_mib").and_then(|v| v.parse().ok()), &mut config.zram) {
        (Some(0), _) => config.zram = None,
        (Some(size_mib), Some(zram)) => zram.size_mib = size_mib,
        _ => {}
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::cmdline::parse_cmdline;
    use bootwright_contract::Zram;
    use bootwright_contract::fixture::boot_config;

    #[test]
    fn truncated_and_foreign_configs_are_told_apart() {
        let good = serde_json::to_vec(&boot_config()).unwrap();
        assert!(parse_config(&good).is_ok());
        let error = parse_config(&good[..good.len() - 9]).unwrap_err().to_string();
        assert!(error.contains("truncated") && error.contains("more RAM"), "{error}");
        let mut newer = boot_config();
        newer.version = 2;
        let error = parse_config(&serde_json::to_vec(&newer).unwrap()).unwrap_err().to_string();
        assert_eq!(error, "`/bootwright/boot.json` has version 2, this PID1 reads 1");
        let text = String::from_utf8(good).unwrap().replacen('{', "{\"surprise\":1,", 1);
        assert!(parse_config(text.as_bytes()).unwrap_err().to_string().contains("surprise"));
    }

    #[test]
    fn the_command_line_overrides() {
        let mut config = boot_config();
        config.zram = Some(Zram { size_mib: 64, algorithm: "lz4".into(), swappiness: 100 });
        let cases = [("", "32M", Some(64)), ("bw.zram_mib=0", "32M", None), ("bw.zram_mib=8", "32M", Some(8))];
        for (line, overlay, zram) in cases {
            let got = override_config(config.clone(), &parse_cmdline(line));
            assert_eq!((got.root.overlay_size.as_str(), got.zram.map(|z| z.size_mib)), (overlay, zram), "{line}");
        }
        let got = override_config(config, &parse_cmdline("bw.overlay_size=10% bw.read_ahead_kb=64"));
        assert_eq!((got.root.overlay_size.as_str(), got.root.read_ahead_kb), ("10%", Some(64)));
    }
}
