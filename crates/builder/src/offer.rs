//! A folder with sources for those who ask for them. It has an index, which is written last: a folder without one is not whole.
//! Each file is put in place whole; what a later call finds is kept.

use crate::entry::Sha256;
use crate::error::{Exit, Failure};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Marks a folder as one of these.
const MARKER: &str = ".bootwright-sources";
const INDEX: &str = "README.md";
const SUMS: &str = "SHA256SUMS";

/// Exit code 1; 2 for a folder that holds something else.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    #[error("`{}` holds something else", dir.display())]
    NotOurs { dir: PathBuf },
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("`{}` in the cache is damaged", path.display())]
    Damaged { path: PathBuf },
}

impl From<OfferError> for Failure {
    fn from(e: OfferError) -> Self {
        let (exit, help) = match &e {
            OfferError::NotOurs { .. } => (Exit::Usage, "name a new folder, or one that this command made"),
            OfferError::Io { .. } => (Exit::Other, "check the folder's permissions and room, and call it again"),
            OfferError::Damaged { .. } => (Exit::Other, "delete it and call it again: it is fetched anew"),
        };
        Self { exit, message: e.to_string(), help: Some(help.into()) }
    }
}

/// A package of the image whose source is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    pub component: String,
    pub name: String,
    pub version: String,
    /// SPDX expression, or that it is not known.
    pub licence: String,
    /// Below the folder.
    pub files: Vec<String>,
}

/// A folder that is being filled.
#[derive(Debug)]
pub struct Offer {
    dir: PathBuf,
    recipe: String,
    sums: BTreeMap<String, Sha256>,
    parts: BTreeSet<Part>,
    elsewhere: Vec<String>,
}

impl Offer {
    /// Opens a new or empty folder, or one that an earlier call filled.
    pub fn open(dir: &Path, recipe: &str) -> Result<Self, OfferError> {
        std::fs::create_dir_all(dir).map_err(io("make", dir))?;
        let marker = dir.join(MARKER);
        if !marker.exists() {
            if std::fs::read_dir(dir).map_err(io("list", dir))?.next().is_some() {
                return Err(OfferError::NotOurs { dir: dir.into() });
            }
            std::fs::write(&marker, "").map_err(io("write", &marker))?;
        }
        // Of an earlier call: until this one is done the folder is not whole.
        match std::fs::remove_file(dir.join(INDEX)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io("remove", &dir.join(INDEX))(e)),
            _ => {}
        }
        let (sums, parts, elsewhere) = Default::default();
        Ok(Self { dir: dir.into(), recipe: recipe.into(), sums, parts, elsewhere })
    }

    /// Puts a file with a known hash there, as a further name of the cache's where that is possible.
    pub fn place_file(&mut self, to: &str, from: &Path, sha256: Sha256) -> Result<(), OfferError> {
        if self.take(to, sha256)? {
            return Ok(());
        }
        let (path, part) = (self.dir.join(to), self.dir.join(format!("{to}.part")));
        let _ = std::fs::remove_file(&part);
        if std::fs::hard_link(from, &part).is_err() {
            std::fs::copy(from, &part).map_err(io("write", &part))?;
        }
        if Sha256::of_file(&part).map_err(io("read", &part))?.0 != sha256 {
            return Err(OfferError::Damaged { path: from.into() });
        }
        std::fs::rename(&part, &path).map_err(io("make", &path))
    }

    /// Copies a file that was verified before.
    pub fn copy_file(&mut self, to: &str, from: &Path) -> Result<(), OfferError> {
        self.write(to, &std::fs::read(from).map_err(io("read", from))?)
    }

    pub fn write_text(&mut self, to: &str, text: &str) -> Result<(), OfferError> {
        self.write(to, text.as_bytes())
    }

    pub fn add_part(&mut self, part: Part) {
        self.parts.insert(part);
    }

    /// Something that is not there, in words.
    pub fn add_elsewhere(&mut self, what: String) {
        self.elsewhere.push(what);
    }

    /// Writes sums and index. Gives the number of parts, and what is not there.
    pub fn finish(mut self) -> Result<(usize, Vec<String>), OfferError> {
        let index = self.index();
        self.sums.insert(INDEX.into(), Sha256::of(index.as_bytes()));
        // As sha256sum(1) checks it.
        let sums: String = self.sums.iter().map(|(path, sha256)| format!("{sha256}  {path}\n")).collect();
        self.write(SUMS, sums.as_bytes())?;
        // The last one: a folder without it is not whole.
        self.write(INDEX, index.as_bytes())?;
        Ok((self.parts.len(), self.elsewhere))
    }

    fn index(&self) -> String {
        let mut text = format!(
            "# Sources of the image `{}`\n\n\
             What is in the image under a licence that asks for source, or whose licence is not known, and the files that it was\n\
             built from. `sha256sum -c {SUMS}` checks them. Files that are not in that list are of another image.\n\n\
             Kernel modules in the image may be stripped of symbols and signatures: the tool that made it, bootwright, does that\n\
             (`[kernel] strip` of the recipe). Go programs are built by it as the recipe says.\n\n\
             | in the image | version | component | licence | files |\n|---|---|---|---|---|\n",
            self.recipe
        );
        for Part { component, name, version, licence, files } in &self.parts {
            let files: Vec<String> = files.iter().map(|file| format!("[{file}](<{file}>)")).collect();
            text += &format!("| {name} | {version} | {component} | {licence} | {} |\n", files.join("<br>"));
        }
        if !self.elsewhere.is_empty() {
            text += "\n## Not here\n\nWhoever gives the image away has to look for the sources of these:\n\n";
            self.elsewhere.iter().for_each(|what| text += &format!("- {what}\n"));
        }
        text
    }

    /// Notes a file. Is it there already?
    fn take(&mut self, to: &str, sha256: Sha256) -> Result<bool, OfferError> {
        self.sums.insert(to.into(), sha256);
        let path = self.dir.join(to);
        if path.is_file() && Sha256::of_file(&path).map_err(io("read", &path))?.0 == sha256 {
            return Ok(true);
        }
        let folder = path.parent().unwrap_or(&self.dir);
        std::fs::create_dir_all(folder).map_err(io("make", folder))?;
        Ok(false)
    }

    fn write(&mut self, to: &str, bytes: &[u8]) -> Result<(), OfferError> {
        if self.take(to, Sha256::of(bytes))? {
            return Ok(());
        }
        let path = self.dir.join(to);
        let mut file =
            tempfile::NamedTempFile::new_in(path.parent().unwrap_or(&self.dir)).map_err(io("write", &path))?;
        file.write_all(bytes).map_err(io("write", &path))?;
        // A new file of this kind is its owner's alone; these are for everybody.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(mode).map_err(io("write", &path))?;
        file.persist(&path).map_err(|e| io("make", &path)(e.error))?;
        Ok(())
    }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> OfferError {
    let path = path.to_path_buf();
    move |cause| OfferError::Io { action, path, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(files: &[&str]) -> Part {
        Part {
            component: "shell".into(),
            name: "busybox".into(),
            version: "1".into(),
            licence: "GPL-2.0-only".into(),
            files: files.iter().map(|f| f.to_string()).collect(),
        }
    }

    #[test]
    fn what_is_there_is_kept_and_what_is_wrong_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (out, blob) = (dir.path().join("out"), dir.path().join("blob"));
        std::fs::write(&blob, "source").unwrap();
        let fill = || {
            let mut offer = Offer::open(&out, "r").unwrap();
            offer.place_file("debian/a/a.dsc", &blob, Sha256::of(b"source")).unwrap();
            offer.write_text("licences/a.txt", "GPL").unwrap();
            offer.add_part(part(&["debian/a/a.dsc", "licences/a.txt"]));
            offer.add_elsewhere("component `x`".into());
            offer.finish().unwrap()
        };
        assert_eq!(fill(), (1, vec!["component `x`".to_string()]));
        let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
        let index = read(INDEX);
        assert!(index.contains("| busybox | 1 | shell | GPL-2.0-only | [debian/a/a.dsc]"), "{index}");
        assert!(index.contains("## Not here") && index.contains("- component `x`"), "{index}");
        let sums = read(SUMS);
        assert!(sums.contains(&format!("{}  debian/a/a.dsc\n", Sha256::of(b"source"))), "{sums}");
        let listed: Vec<_> = sums.lines().map(|line| line.split("  ").nth(1).unwrap()).collect();
        assert_eq!(listed, [INDEX, "debian/a/a.dsc", "licences/a.txt"]);

        std::fs::remove_file(out.join("debian/a/a.dsc")).unwrap();
        std::fs::write(out.join("debian/a/a.dsc"), "cut sho").unwrap();
        let kept = std::fs::metadata(out.join("licences/a.txt")).unwrap().modified().unwrap();
        fill();
        assert_eq!(read("debian/a/a.dsc"), "source");
        assert_eq!(std::fs::metadata(out.join("licences/a.txt")).unwrap().modified().unwrap(), kept);
    }

    #[test]
    fn folders_of_others_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.txt"), "").unwrap();
        let failure = Failure::from(Offer::open(dir.path(), "r").unwrap_err());
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.ends_with("holds something else"), "{failure}");
    }

    #[test]
    fn a_damaged_blob_is_not_passed_on() {
        let dir = tempfile::tempdir().unwrap();
        let blob = dir.path().join("blob");
        std::fs::write(&blob, "damaged").unwrap();
        let mut offer = Offer::open(&dir.path().join("out"), "r").unwrap();
        let error = offer.place_file("a", &blob, Sha256::of(b"source")).unwrap_err();
        assert!(matches!(error, OfferError::Damaged { .. }), "{error}");
        assert!(!dir.path().join("out/a").exists());
    }
}
