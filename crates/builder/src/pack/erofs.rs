//! The root as an erofs, made by mkfs.erofs from a staging folder.
//!
//! Versions before 1.8 compress no tar input, so the files are laid out in a folder first. An ordinary user cannot give
//! them owners or make devices there: such entries are refused.

use super::tool::FoundPackTool;
use super::{PackError, copy_body};
use crate::entry::{Entry, Kind};
use crate::interrupt::ProcessGroup;
use crate::recipe::Root;
use std::fs::{File, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

/// The image's UUID: fixed, as nothing finds the root by it.
const UUID: &str = "00000000-0000-0000-0000-000000000000";

/// mkfs.erofs's `-z` argument.
fn compressor_arg(root: &Root) -> Result<String, PackError> {
    let (name, most, range) = match root.compressor.as_str() {
        "lz4" => ("lz4", 0, "no level"),
        "lz4hc" => ("lz4hc", 12, "1 to 12"),
        "zstd" => ("zstd", 22, "1 to 22"),
        "xz" => ("lzma", 9, "1 to 9"),
        "gzip" => ("deflate", 9, "1 to 9"),
        other => {
            let known = "zstd, xz (lzma), gzip (deflate), lz4, lz4hc";
            return Err(PackError::BadCompressor { image: "erofs", compressor: other.into(), known });
        }
    };
    match root.level {
        None => Ok(name.into()),
        Some(level) if level == 0 || level > most => {
            Err(PackError::BadLevel { compressor: root.compressor.clone(), level: level.into(), range })
        }
        Some(level) => Ok(format!("{name},{level}")),
    }
}

/// Refuses settings that no mkfs.erofs would take.
pub fn check_settings(root: &Root) -> Result<(), PackError> {
    if !root.block_kib.is_power_of_two() || !(4..=1024).contains(&root.block_kib) {
        return Err(PackError::BadBlock { image: "erofs", block_kib: root.block_kib });
    }
    compressor_arg(root).map(drop)
}

/// Makes the image at `out`; `staging` is an empty folder that the files are laid out in.
pub fn make_erofs(
    entries: &[Entry],
    root: &Root,
    tool: &FoundPackTool,
    staging: &Path,
    out: &Path,
) -> Result<(), PackError> {
    check_settings(root)?;
    let compressor = compressor_arg(root)?;
    check_tool_has(tool, compressor.split(',').next().unwrap_or(&compressor))?;
    stage(entries, staging)?;
    let mut command = tool.command();
    command
        .args(["-d1", "-x-1", "-T0", "-U", UUID, "--all-root", "-z", &compressor])
        .arg(format!("-C{}", u64::from(root.block_kib) << 10))
        .arg(out)
        .arg(staging)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut group = ProcessGroup::spawn(&mut command).map_err(PackError::io("run", &tool.path))?;
    let mut said = Vec::new();
    let mut pipe = group.child().stderr.take().expect("standard error is a pipe");
    pipe.read_to_end(&mut said).map_err(PackError::io("read from", &tool.path))?;
    let status = group.child().wait().map_err(PackError::io("wait for", &tool.path))?;
    match status.success() {
        true => Ok(()),
        false => Err(PackError::Tool {
            tool: tool.tool.name,
            status: status.to_string(),
            stderr: String::from_utf8_lossy(&said).trim().into(),
        }),
    }
}

/// `mkfs.erofs --help` lists the compressors that it was built with, on one line or one each.
fn check_tool_has(tool: &FoundPackTool, compressor: &str) -> Result<(), PackError> {
    let output =
        tool.command().arg("--help").stdin(Stdio::null()).output().map_err(PackError::io("run", &tool.path))?;
    let help = [output.stdout, output.stderr].concat();
    let known = parse_compressors(&String::from_utf8_lossy(&help));
    match known.iter().any(|name| name == compressor) {
        true => Ok(()),
        false => Err(PackError::ToolLacks {
            tool: tool.tool.name,
            version: tool.version.clone(),
            compressor: compressor.into(),
            known: known.join(", "),
        }),
    }
}

fn parse_compressors(help: &str) -> Vec<String> {
    const NAMES: [&str; 5] = ["lz4", "lz4hc", "lzma", "deflate", "zstd"];
    let Some(at) = help.to_ascii_lowercase().find("available compressors").or_else(|| help.find("X=compressor")) else {
        return Vec::new();
    };
    let words = help[at..].split(|c: char| !c.is_ascii_alphanumeric());
    let mut found: Vec<String> = words.filter(|word| NAMES.contains(word)).map(Into::into).collect();
    found.sort();
    found.dedup();
    found
}

fn stage(entries: &[Entry], staging: &Path) -> Result<(), PackError> {
    std::fs::set_permissions(staging, Permissions::from_mode(0o755))
        .map_err(PackError::io("set the mode of", staging))?;
    for entry in entries {
        let bad = |problem| Err(PackError::Erofs { path: entry.path.clone(), problem });
        if (entry.uid, entry.gid) != (0, 0) {
            return bad("its owner is not root");
        }
        let path = staging.join(&entry.path);
        match &entry.kind {
            Kind::Dir => std::fs::create_dir(&path).map_err(PackError::io("make", &path))?,
            Kind::File(body) => {
                let mut file = File::create_new(&path).map_err(PackError::io("make", &path))?;
                copy_body(&entry.path, body, &mut file, PackError::io("write", &path))?;
            }
            Kind::Symlink(target) => symlink(target, &path).map_err(PackError::io("make", &path))?,
            // Made below: its file may come later.
            Kind::Hardlink(_) => {}
            Kind::CharDevice { .. } | Kind::BlockDevice { .. } | Kind::Fifo => return bad("it is a device or a pipe"),
        }
    }
    // Modes last and deepest first: a folder that may not be written takes no more files.
    for entry in entries.iter().rev() {
        let path = staging.join(&entry.path);
        match &entry.kind {
            Kind::Dir | Kind::File(_) => std::fs::set_permissions(&path, Permissions::from_mode(entry.mode))
                .map_err(PackError::io("set the mode of", &path))?,
            Kind::Hardlink(target) => {
                std::fs::hard_link(staging.join(target), &path).map_err(PackError::io("make", &path))?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressors_of_old_and_new_tools() {
        assert_eq!(
            parse_compressors("--quiet  x\n\nAvailable compressors are: lz4hc, lz4\nmkfs.erofs 1.5\n"),
            ["lz4", "lz4hc"]
        );
        let new = " -zX[,level=Y]  X=compressor (Y=compression level, Z=dictionary size, optional)\n   lz4\n   lz4hc[,level=<0-12>]\t(default=9)\n   lzma[,...]\n   deflate\n   zstd\n";
        assert_eq!(parse_compressors(new), ["deflate", "lz4", "lz4hc", "lzma", "zstd"]);
        assert!(parse_compressors("nothing").is_empty());
    }
}
