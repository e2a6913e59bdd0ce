//! The host programs that make root images, and their versions.
//!
//! A version is part of a segment's key, so every build needs it; running the program each time costs more than the rest
//! of a build with nothing changed. It is remembered for the program file as it is (path, size, time).

use super::PackError;
use crate::cache::Cache;
use crate::entry::Sha256;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A program of the host that is run to make an image.
#[derive(Debug, Clone, Copy)]
pub struct PackTool {
    pub name: &'static str,
    /// Debian's package.
    pub package: &'static str,
    /// What makes it say its version.
    pub version_flag: &'static str,
    pub needed_for: &'static str,
}

pub const MKSQUASHFS: PackTool = PackTool {
    name: "mksquashfs",
    package: "squashfs-tools",
    version_flag: "-version",
    needed_for: "`[root] image = \"squashfs\"`",
};
pub const MKFS_EROFS: PackTool = PackTool {
    name: "mkfs.erofs",
    package: "erofs-utils",
    version_flag: "-V",
    needed_for: "`[root] image = \"erofs\"`",
};

/// A tool that was found.
#[derive(Debug, Clone)]
pub struct FoundPackTool {
    pub tool: PackTool,
    pub path: PathBuf,
    /// `4.5.1`
    pub version: String,
}

impl FoundPackTool {
    /// `mksquashfs 4.5.1`
    pub fn title(&self) -> String {
        format!("{} {}", self.tool.name, self.version)
    }

    /// The program with an environment of its own: SOURCE_DATE_EPOCH is fatal to mksquashfs beside a time option, and no
    /// locale or time zone shall reach an image.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
        command
    }
}

/// Finds a tool on PATH and its version.
pub fn find_tool(tool: PackTool, cache: &Cache) -> Result<FoundPackTool, PackError> {
    let missing = || PackError::MissingTool { tool: tool.name, package: tool.package, needed_for: tool.needed_for };
    let path = on_path(tool.name).ok_or_else(missing)?;
    let facts = path.metadata().map_err(PackError::io("read", &path))?;
    let state = format!("{} {} {} {}", path.display(), facts.size(), facts.mtime(), facts.mtime_nsec());
    let key = Sha256::of(state.as_bytes()).to_string();
    if let Some(record) = cache.derived("tools", &key) {
        let version = std::fs::read_to_string(&record).map_err(PackError::io("read", &record))?;
        return Ok(FoundPackTool { tool, path, version });
    }
    let mut found = FoundPackTool { tool, path, version: String::new() };
    found.version = ask_version(&found)?;
    let file = cache.temp_file()?;
    std::fs::write(file.path(), &found.version).map_err(PackError::io("write", file.path()))?;
    cache.adopt_derived("tools", &key, file.path())?;
    Ok(found)
}

/// Where a program is on PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn ask_version(found: &FoundPackTool) -> Result<String, PackError> {
    let output = found
        .command()
        .arg(found.tool.version_flag)
        .stdin(Stdio::null())
        .output()
        .map_err(PackError::io("run", &found.path))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    parse_version(&text).ok_or_else(|| PackError::Tool {
        tool: found.tool.name,
        status: output.status.to_string(),
        stderr: "it does not say its version".into(),
    })
}

/// The first word that starts with a digit and holds a dot, on a line that names the program.
fn parse_version(text: &str) -> Option<String> {
    text.lines()
        .filter(|line| line.contains("version") || line.contains("mkfs.erofs"))
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_end_matches([',', ';']))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
        .map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions() {
        for (text, version) in [
            ("mksquashfs version 4.5.1 (2022/03/17)\ncopyright (C) 2022 Phillip Lougher\n", Some("4.5.1")),
            ("mksquashfs version 4.6.1 (2023/03/25)\n", Some("4.6.1")),
            ("mkfs.erofs: invalid option -- 'V'\nusage: [options] FILE DIRECTORY\nmkfs.erofs 1.5\n", Some("1.5")),
            ("mkfs.erofs (erofs-utils) 1.8.6\navailable compressors: lz4, lz4hc\n", Some("1.8.6")),
            ("nothing", None),
        ] {
            assert_eq!(parse_version(text).as_deref(), version, "{text}");
        }
    }
}
