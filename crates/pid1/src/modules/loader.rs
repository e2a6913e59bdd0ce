//! Loads modules: first the softdeps before, then the dependencies, the module, and the softdeps after.

use super::index::ModuleIndex;
use crate::base::contents::{ContentError, check_module, compares};
use bootwright_base::cmdline::Cmdline;
use bootwright_base::sys::Sys;
use bootwright_contract::modalias::kernel_name;
use nix::errno::Errno;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("module `{name}` is not in the image")]
    Unknown { name: String },
    // The kernel's answer when a symbol or an algorithm of the crypto API is missing. The kernel logs its name.
    #[error("module `{name}` needs something that is neither built in nor loaded (the kernel's log says what)")]
    Incomplete { name: String },
    #[error("cannot load module `{name}` from `{file}`: {source}")]
    Load { name: String, file: PathBuf, source: Errno },
    #[error("module `{name}` is not loaded: {cause}")]
    Damaged { name: String, cause: Box<ContentError> },
}

/// Loads modules of an index, each at most once.
pub struct ModuleLoader<'a> {
    sys: &'a dyn Sys,
    index: &'a ModuleIndex,
    cmdline: &'a Cmdline,
    /// Modules that were asked for: loaded, being loaded, or failed.
    seen: HashSet<String>,
}

impl<'a> ModuleLoader<'a> {
    /// Options come from `<module>.<option>=<value>` on the command line, as for built-in code.
    pub fn new(sys: &'a dyn Sys, index: &'a ModuleIndex, cmdline: &'a Cmdline) -> ModuleLoader<'a> {
        ModuleLoader { sys, index, cmdline, seen: HashSet::new() }
    }

    /// Loads a module and what it needs. A module that is loaded or built in is no error.
    ///
    /// # Errors
    /// [`LoadError`]
    pub fn load(&mut self, name: &str) -> Result<(), LoadError> {
        self.load_with(name, "")
    }

    /// As [`ModuleLoader::load`], with options. Those of the command line come after them and win.
    pub fn load_with(&mut self, name: &str, options: &str) -> Result<(), LoadError> {
        let name = kernel_name(name);
        if self.index.is_builtin(&name) || !self.seen.insert(name.clone()) || self.sys.has_module(&name) {
            return Ok(());
        }
        let index = self.index;
        let file = index.file(&name).ok_or_else(|| LoadError::Unknown { name: name.clone() })?;
        let (before, after) = index.soft(&name);
        self.load_soft(before)?;
        for need in index.needs(&name).iter().rev() {
            self.load(need)?;
        }
        self.check(&name, &file)?;
        let compressed = file.extension().is_some_and(|e| e != "ko");
        match self.sys.load_module(&file, self.options(&name, options).trim(), compressed) {
            Ok(()) | Err(Errno::EEXIST) => self.load_soft(after),
            Err(Errno::ENOENT) => Err(LoadError::Incomplete { name }),
            Err(source) => Err(LoadError::Load { name, file, source }),
        }
    }

    /// Compares the file with what was built. Modules that are not in modules.sums are not compared.
    fn check(&self, name: &str, file: &Path) -> Result<(), LoadError> {
        let expected = self.index.xxh64(name).filter(|_| compares(self.cmdline));
        let compared = expected.map_or(Ok(()), |expected| check_module(file, expected));
        compared.map_err(|cause| LoadError::Damaged { name: name.into(), cause: cause.into() })
    }

    /// Loads softdeps. A softdep that is not in the image is skipped. One may be an alias such as `crc32c`: all modules
    /// with that alias are tried, because some need a processor feature that is missing.
    fn load_soft(&mut self, names: &[String]) -> Result<(), LoadError> {
        for name in names {
            if self.index.file(name).is_some() {
                self.load(name)?;
            } else {
                // The module that has the softdep shows whether one of them was loaded.
                let _ = self.load_serving(name);
            }
        }
        Ok(())
    }

    /// Loads all modules that serve a modalias.
    ///
    /// # Errors
    /// The first error, after all were tried.
    pub fn load_serving(&mut self, alias: &str) -> Result<(), LoadError> {
        let mut outcome = Ok(());
        for name in self.index.serving(alias) {
            if !self.is_blacklisted(&name) {
                outcome = outcome.and(self.load(&name));
            }
        }
        outcome
    }

    /// `modprobe.blacklist=a,b` of the command line (modprobe(8)): such modules are not loaded by alias, only by name.
    fn is_blacklisted(&self, name: &str) -> bool {
        let mut listed = self.cmdline.values("modprobe.blacklist").flat_map(|list| list.split(','));
        listed.any(|n| kernel_name(n) == name)
    }

    fn options(&self, name: &str, ours: &str) -> String {
        let mut options = vec![ours.to_string()];
        for (key, value) in self.cmdline.words() {
            let Some((_, option)) = key.split_once('.').filter(|(module, _)| kernel_name(module) == name) else {
                continue;
            };
            options.push(value.map_or(option.to_string(), |v| format!("{option}={v}")));
        }
        options.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::index::tests::index;
    use super::*;
    use bootwright_base::cmdline::parse_cmdline;
    use bootwright_base::sys::fake::FakeSys;

    const DEP: &str = "k/erofs.ko.xz: k/libcrc32c.ko.xz\nk/libcrc32c.ko.xz:\nk/crc32c_generic.ko:\nk/nbd.ko:\nk/loop.ko:\n\
                       k/bad.ko: k/absent.ko\nk/ring-a.ko: k/ring-b.ko\nk/ring-b.ko: k/ring-a.ko\n";
    const SOFT: &str = "softdep libcrc32c pre: crc32c_generic crc32c-vpmsum\nsoftdep erofs post: loop\n";

    fn load(names: &[&str], cmdline: &str, fake: &FakeSys) -> (Vec<Result<(), String>>, Vec<String>) {
        let index = index(DEP, "alias fs-erofs erofs\nalias b* nbd\nalias b* bad\n", SOFT, "k/ext4.ko\n");
        let cmdline = parse_cmdline(cmdline);
        let mut loader = ModuleLoader::new(fake, &index, &cmdline);
        let results = names.iter().map(|n| loader.load(n).map_err(|e| e.to_string())).collect();
        (results, fake.calls())
    }

    #[test]
    fn softdeps_dependencies_itself() {
        let (results, calls) = load(&["erofs", "erofs", "ext4"], "", &FakeSys::default());
        assert_eq!(results, [Ok(()), Ok(()), Ok(())]);
        let expected = [
            "load_module /m/k/crc32c_generic.ko  false",
            "load_module /m/k/libcrc32c.ko.xz  true",
            "load_module /m/k/erofs.ko.xz  true",
            "load_module /m/k/loop.ko  false",
        ];
        assert_eq!(calls, expected);
    }

    #[test]
    fn softdeps_may_be_aliases() {
        let dep = "k/libcrc32c.ko:\nk/crc32c-intel.ko:\nk/crc32c_generic.ko:\n";
        let alias = "alias crc32c crc32c_intel\nalias crc32c crc32c_generic\n";
        let index = index(dep, alias, "softdep libcrc32c pre: crc32c nothing\n", "");
        let (fake, cmdline) = (FakeSys::failing(&["load_module /m/k/crc32c-intel.ko"]), Cmdline::default());
        assert!(ModuleLoader::new(&fake, &index, &cmdline).load("libcrc32c").is_ok());
        let expected = ["crc32c-intel", "crc32c_generic", "libcrc32c"];
        assert_eq!(fake.calls(), expected.map(|name| format!("load_module /m/k/{name}.ko  false")));
    }

    #[test]
    fn a_damaged_module_is_not_loaded() {
        let folder = std::env::temp_dir().join(format!("bootwright-loader-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("k")).unwrap();
        std::fs::write(folder.join("k/a.ko"), "hello").unwrap();
        std::fs::write(folder.join("k/new.ko"), "hello").unwrap();
        std::fs::write(folder.join("modules.dep"), "k/a.ko:\nk/new.ko:\n").unwrap();
        let load = |xxh64: &str, name: &str, cmdline: &str| {
            std::fs::write(folder.join("modules.sums"), format!("{xxh64} k/a.ko\n")).unwrap();
            let (index, cmdline, fake) =
                (ModuleIndex::load(&folder).unwrap(), parse_cmdline(cmdline), FakeSys::default());
            let outcome = ModuleLoader::new(&fake, &index, &cmdline).load(name).map_err(|e| e.to_string());
            (outcome, fake.calls().len())
        };
        // What `xxhsum -H64` prints for `hello`.
        assert_eq!(load("26c7827d889f6da3", "a", ""), (Ok(()), 1));
        let (outcome, loaded) = load("26c7827d889f6da4", "a", "");
        let error = outcome.unwrap_err();
        assert!(error.starts_with("module `a` is not loaded: `") && error.contains("k/a.ko` is damaged"), "{error}");
        assert_eq!(loaded, 0);
        assert_eq!(load("26c7827d889f6da4", "a", "bw.verify=0"), (Ok(()), 1));
        assert_eq!(load("26c7827d889f6da4", "new", ""), (Ok(()), 1), "somebody added it");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn options_come_from_the_command_line() {
        let (_, calls) = load(&["nbd"], "nbd.nbds_max=0 other.x=1 nbd.flag", &FakeSys::default());
        assert_eq!(calls, ["load_module /m/k/nbd.ko nbds_max=0 flag false"]);
    }

    #[test]
    fn what_is_missing_is_an_error_and_rings_end() {
        let (results, calls) = load(&["bad", "ring-a"], "", &FakeSys::default());
        assert_eq!(results[0], Err("module `absent` is not in the image".into()));
        assert_eq!(results[1], Ok(()));
        assert_eq!(calls.len(), 2, "{calls:?}");
        let (results, _) = load(&["loop"], "", &FakeSys::failing(&["load_module"]));
        assert!(results[0].as_ref().unwrap_err().starts_with("cannot load module `loop` from `/m/k/loop.ko`: EPERM"));
    }

    #[test]
    fn aliases_honour_the_blacklist_and_try_all() {
        let index = index(DEP, "alias b* bad\nalias b* nbd\nalias b* loop\n", "", "");
        let (fake, cmdline) = (FakeSys::default(), parse_cmdline("modprobe.blacklist=loop,x"));
        let outcome = ModuleLoader::new(&fake, &index, &cmdline).load_serving("b1");
        assert!(outcome.is_err());
        assert_eq!(fake.calls(), ["load_module /m/k/nbd.ko  false"]);
    }
}
