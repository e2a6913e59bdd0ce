//! Kernel parameters in files of the image: `sysctl.d(5)`. They become part of the boot config, so that PID1 sets them
//! with those of the recipe and reads no files for them.

use crate::entry::{Body, Kind};
use crate::error::{Exit, Failure};
use crate::recipe::SegmentName;
use crate::tree::{Tree, resolve};
use crate::ui::Ui;
use bootwright_contract::ByName;
use bootwright_contract::sysctl::swap_separators;
use std::collections::BTreeMap;

/// Folders without a leading `/`. A file of an earlier one hides those of the same name in later ones.
const FOLDERS: [&str; 3] = ["etc/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d"];

/// Longer ones are no configuration.
const MAX_SIZE: u64 = 1 << 20;

/// What the files say.
#[derive(Debug, Default, PartialEq)]
struct SysctlFiles {
    /// Dotted names, as in the boot config.
    values: BTreeMap<String, String>,
    /// A text for each line that is left out.
    left_out: Vec<String>,
}

/// Adds what the image's files say to the parameters of the recipe, which count more. Lines that are left out are told.
///
/// # Errors
/// When a file cannot be read.
pub fn add_to(recipe: &BTreeMap<String, String>, tree: &Tree, ui: &Ui) -> Result<ByName<String>, Failure> {
    let files = SysctlFiles::read(tree)?;
    for text in &files.left_out {
        ui.say(format!("left out: {text}"));
    }
    Ok(files.values.into_iter().chain(recipe.clone()).collect())
}

/// The paths that count, sorted by their last part. A link to `/dev/null` says that the file of that name does not count.
fn paths(tree: &Tree) -> Vec<String> {
    let mut by_name = BTreeMap::new();
    for folder in FOLDERS.iter().rev() {
        for (_, path) in tree.entries.keys().filter(|(segment, _)| *segment != SegmentName::Boot) {
            let name = path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
            if let Some(name) = name.filter(|name| name.ends_with(".conf") && !name.contains('/')) {
                by_name.insert(name.to_string(), path.clone());
            }
        }
    }
    by_name.into_values().filter(|path| end_of(tree, path).as_deref() != Some("dev/null")).collect()
}

/// The entry as the booted machine sees it: the config segment lies over the root.
fn kind<'a>(tree: &'a Tree, path: &str) -> Option<&'a Kind> {
    let entries = tree.find(path).filter(|entry| entry.segment != SegmentName::Boot);
    entries.last().map(|entry| &entry.entry.kind)
}

fn end_of(tree: &Tree, path: &str) -> Option<String> {
    resolve(path, false, |path| kind(tree, path)).end
}

/// The file at a path, where links lead to it.
fn body<'a>(tree: &'a Tree, path: &str) -> Option<&'a Body> {
    let found = match kind(tree, &end_of(tree, path)?)? {
        Kind::Hardlink(other) => kind(tree, other)?,
        other => other,
    };
    match found {
        Kind::File(body) => Some(body),
        _ => None,
    }
}

impl SysctlFiles {
    /// Reads all `*.conf` of the image's folders, in the order of their names. A later value of a parameter counts.
    fn read(tree: &Tree) -> Result<SysctlFiles, Failure> {
        let mut found = SysctlFiles::default();
        for path in paths(tree) {
            let Some(body) = body(tree, &path) else {
                found.left_out.push(format!("`/{path}`, which leads to no file of the image"));
                continue;
            };
            let text = body.read_start(MAX_SIZE).map_err(|cause| Failure {
                exit: Exit::Other,
                message: format!("cannot read `/{path}` of the image from `{}`: {cause}", body.place().display()),
                help: None,
            })?;
            found.add(&path, &String::from_utf8_lossy(&text));
        }
        Ok(found)
    }

    fn add(&mut self, path: &str, text: &str) {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            match parse(line) {
                Ok((key, value)) => drop(self.values.insert(key, value)),
                Err(why) => self.left_out.push(format!("`/{path}` line {}: `{line}` {why}", number + 1)),
            }
        }
    }
}

/// A line, `KEY = VALUE`. A `-` in front lets errors be ignored, which PID1 does with all of them.
fn parse(line: &str) -> Result<(String, String), &'static str> {
    let (key, value) = line.split_once('=').ok_or("has no `=`")?;
    let key = key.trim().trim_start_matches('-').trim_start();
    if key.contains(['*', '?', '[']) {
        return Err(
            "names parameters by a pattern, which is not supported: name each, or `default` in place of a network interface",
        );
    }
    let dotted = match key.find(['.', '/']) {
        Some(at) if key[at..].starts_with('/') => swap_separators(key),
        Some(_) => key.to_string(),
        None => return Err("names no kernel parameter"),
    };
    let good = dotted.split(['.', '/']).all(|part| !part.is_empty()) && !dotted.contains(char::is_whitespace);
    if good { Ok((dotted, value.trim().to_string())) } else { Err("names no kernel parameter") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Entry;
    use crate::tree::fixture::{file, link, origin};
    use crate::tree::{Reason, TreeEntry};

    fn tree(entries: Vec<(SegmentName, Entry)>) -> Tree {
        let mut tree = Tree::default();
        for (segment, entry) in entries {
            let path = entry.path.clone();
            let entry = TreeEntry { entry, component: "c".into(), origin: origin(1), reason: Reason::Inline, segment };
            tree.entries.insert((segment, path), entry);
        }
        tree
    }

    fn values(files: &SysctlFiles) -> Vec<(&str, &str)> {
        files.values.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    #[test]
    fn names_decide_which_files_count_and_in_which_order() {
        use SegmentName::{Boot, Config, Root};
        let tree = tree(vec![
            (Root, file("usr/lib/sysctl.d/10-a.conf", "a.same = usr\na.only_usr = 1\n", 0o644)),
            (Root, file("usr/lib/sysctl.d/20-b.conf", "b.hidden = 1\n", 0o644)),
            (Root, file("etc/sysctl.d/20-b.conf", "b.b = etc\n", 0o644)),
            (Root, file("usr/lib/sysctl.d/30-c.conf", "c.masked = 1\n", 0o644)),
            (Root, link("etc/sysctl.d/30-c.conf", "/dev/null")),
            (Root, file("usr/local/lib/sysctl.d/05-z.conf", "a.same = first\n", 0o644)),
            (Root, link("etc/sysctl.d/99-sysctl.conf", "../sysctl.conf")),
            (Root, file("etc/sysctl.conf", "d.linked = root\n", 0o644)),
            (Config, file("etc/sysctl.conf", "d.linked = config\n", 0o644)),
            (Root, link("etc/sysctl.d/98-x.conf", "nowhere")),
            (Boot, file("etc/sysctl.d/40-boot.conf", "e.initramfs = 1\n", 0o644)),
            (Root, file("etc/sysctl.d/README", "f.text = 1\n", 0o644)),
            (Root, file("etc/sysctl.d/more/50-g.conf", "g.g = 1\n", 0o644)),
        ]);
        let found = SysctlFiles::read(&tree).expect("bodies in memory");
        let expected = [("a.only_usr", "1"), ("a.same", "usr"), ("b.b", "etc"), ("d.linked", "config")];
        assert_eq!(values(&found), expected);
        assert_eq!(found.left_out, ["`/etc/sysctl.d/98-x.conf`, which leads to no file of the image"]);
    }

    #[test]
    fn lines_are_read_as_sysctl_reads_them() {
        let mut found = SysctlFiles::default();
        let text = "# comment\n; comment\n\n a.b=1\n-c.d =  2 3\n- e.f = \nnet/ipv4/conf/eth0.1/forwarding = 1\n\
            net.ipv4.conf.eth0/1.rp_filter = 0\r\na.b = 4=5\nno value\nnet.ipv4.conf.*.rp_filter = 2\nword = 1\n\
            ../x = 1\na..b = 1\n= 1\n";
        found.add("etc/sysctl.d/x.conf", text);
        let expected = [
            ("a.b", "4=5"),
            ("c.d", "2 3"),
            ("e.f", ""),
            ("net.ipv4.conf.eth0/1.forwarding", "1"),
            ("net.ipv4.conf.eth0/1.rp_filter", "0"),
        ];
        assert_eq!(values(&found), expected);
        let lines: Vec<&str> = found.left_out.iter().filter_map(|text| text.split('`').nth(2)).collect();
        assert_eq!(lines, [" line 10: ", " line 11: ", " line 12: ", " line 13: ", " line 14: ", " line 15: "]);
        assert!(found.left_out[1].ends_with("or `default` in place of a network interface"), "{:?}", found.left_out);
    }

    #[test]
    fn the_recipe_counts_more() {
        let tree = tree(vec![(SegmentName::Root, file("etc/sysctl.d/a.conf", "a.a = 1\nb.b = 1\n", 0o644))]);
        let recipe = BTreeMap::from([("a.a".to_string(), "2".to_string())]);
        let all = add_to(&recipe, &tree, &Ui::default()).expect("bodies in memory");
        let expected = [("a.a", "2"), ("b.b", "1")].map(|(key, value)| (key.to_string(), value.to_string()));
        assert_eq!(all, ByName::from_iter(expected));
    }
}
