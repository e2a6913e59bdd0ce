//! Loads a program's libraries as ld.so(8) does: breadth first, each name satisfied by what is loaded already, else looked
//! for in DT_RPATH of those that led to it or its own DT_RUNPATH, in `/etc/ld.so.cache` and in the default folders
//! (glibc's elf/dl-deps.c and `_dl_map_object` of elf/dl-load.c). Folders for newer processors (`glibc-hwcaps`) are not
//! searched, nor what `LD_LIBRARY_PATH` and `ld.so.preload` would add.

use super::ld_cache::parse_ld_cache;
use super::program::{Dependent, Program, look_at};
use super::{ElfError, ElfInfo, ElfProblem};
use crate::entry::{Body, Kind};
use crate::tree::{Draft, Reason, Supply};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What an ld.so for x86_64 may search last, Debian's or that of others (`/lib` and `/usr/lib` are one in the merged layout).
const DEFAULT_FOLDERS: [&str; 3] = ["usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib"];
const LD_CACHE: &str = "etc/ld.so.cache";
/// Where e_machine ends (elf(5)).
const ELF_START: u64 = 20;

/// Draws what programs need into a draft.
pub(super) struct Loader<'a, 'b> {
    supply: &'a Supply<'b>,
    pub draft: &'a mut Draft,
    ld_cache: BTreeMap<String, Vec<String>>,
    infos: BTreeMap<String, Rc<ElfInfo>>,
    /// By the path of an ld.so.
    default_folders: BTreeMap<String, Vec<&'static str>>,
    /// By component and name: what its programs have loaded when they open more.
    loaded: BTreeMap<(String, String), String>,
}

/// A file that ld.so has mapped.
struct MappedObject {
    user: Dependent,
    info: Rc<ElfInfo>,
    /// The names that it was asked for by.
    names: Vec<String>,
    /// `$ORIGIN`: the folder of the path that it was opened by.
    origin: String,
    /// Which object asked for it first.
    loader: Option<usize>,
}

impl MappedObject {
    fn answers_to(&self, name: &str) -> bool {
        self.info.soname.as_deref() == Some(name) || self.names.iter().any(|known| known == name)
    }

    /// Fills in the tokens of ld.so(8). A name goes on as far as letters, digits and `_` do.
    fn expand(&self, text: &str) -> String {
        let mut parts = text.split('$');
        let mut out = parts.next().unwrap_or_default().to_string();
        let tokens = [("ORIGIN", self.origin.as_str()), ("LIB", "lib/x86_64-linux-gnu"), ("PLATFORM", "x86_64")];
        for part in parts {
            let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
            let (name, rest) = match part.strip_prefix('{').and_then(|part| part.split_once('}')) {
                Some(braced) => braced,
                None => part.split_at(end),
            };
            match tokens.iter().find(|(token, _)| *token == name) {
                Some((_, value)) => out.extend([*value, rest]),
                None => out.extend(["$", part]),
            }
        }
        out
    }
}

impl<'a, 'b> Loader<'a, 'b> {
    pub fn new(supply: &'a Supply<'b>, draft: &'a mut Draft) -> Result<Self, ElfError> {
        let read = |body: &Body| {
            body.read_start(body.size).map_err(|cause| {
                let (path, place) = (LD_CACHE.into(), body.place());
                ElfError::Read { path, place, cause }
            })
        };
        let bytes = match draft.on_node(LD_CACHE).map(|entry| &entry.entry.kind) {
            Some(Kind::File(body)) => read(body)?,
            _ => Vec::new(),
        };
        Ok(Self {
            supply,
            draft,
            ld_cache: parse_ld_cache(&bytes),
            infos: BTreeMap::new(),
            default_folders: BTreeMap::new(),
            loaded: BTreeMap::new(),
        })
    }

    /// Programs that were read already, by their paths on the node.
    pub fn known(&mut self, infos: BTreeMap<String, Rc<ElfInfo>>) {
        self.infos.extend(infos);
    }

    /// Loads what the program or library at a path of the draft needs. Gives the paths of all that is loaded then.
    pub fn load(&mut self, path: &str) -> Result<Vec<String>, ElfError> {
        let mut objects = vec![self.open(path, path, None)?];
        let interpreter = objects[0].info.interpreter.clone();
        let mut default = DEFAULT_FOLDERS.to_vec();
        // One that is missing is told of by the check of interpreters, which says better what is wrong.
        if let Some(name) = &interpreter
            && let Some(found) = self.find(name, &objects, 0, &[])?
        {
            default = self.default_folders(&found.path)?;
            objects
                .push(MappedObject { names: vec![name.clone()], ..self.open(&found.path, &found.opened_as, Some(0))? });
        }
        let mut next = 0;
        while next < objects.len() {
            for name in objects[next].info.needed.clone() {
                let name = objects[next].expand(&name);
                if objects.iter().any(|object| object.answers_to(&name)) {
                    continue;
                }
                let mut found = self.find(&name, &objects, next, &default)?;
                if found.is_none() && interpreter.is_none() {
                    found = self.find_beside(&name, &objects[next].user)?;
                }
                let Some(found) = found else { return Err(self.missing(&name, &objects[next].user)) };
                match objects.iter_mut().find(|object| object.user.path == found.path) {
                    Some(known) => known.names.push(name),
                    None => {
                        objects.push(MappedObject {
                            names: vec![name],
                            ..self.open(&found.path, &found.opened_as, Some(next))?
                        });
                    }
                }
            }
            next += 1;
        }
        if interpreter.is_some() {
            self.remember(&objects);
        }
        Ok(objects.into_iter().map(|object| object.user.path).collect())
    }

    /// Draws in a library that programs open by themselves (`libraries` of a recipe's component), from the default folders.
    pub fn draw_named(&mut self, soname: &str, by: &Dependent) -> Result<(), ElfError> {
        let candidates = self.candidates(soname, Vec::new(), &DEFAULT_FOLDERS);
        let found = self.draw_first(soname, candidates, by)?;
        found.map(drop).ok_or_else(|| self.missing(soname, by))
    }

    /// The folders that an ld.so searches last: it holds their names, each with a zero after it (`system_dirs` of glibc's
    /// elf/dl-load.c). All of ours where it holds none.
    fn default_folders(&mut self, path: &str) -> Result<Vec<&'static str>, ElfError> {
        if let Some(folders) = self.default_folders.get(path) {
            return Ok(folders.clone());
        }
        let body = match self.draft.on_node(path).map(|entry| &entry.entry.kind) {
            Some(Kind::File(body)) => body,
            _ => return Ok(DEFAULT_FOLDERS.to_vec()),
        };
        let read = |cause| ElfError::Read { path: path.into(), place: body.place(), cause };
        let bytes = body.read_start(body.size).map_err(read)?;
        let has = |folder: &&str| {
            let name = format!("/{folder}/\0");
            bytes.windows(name.len()).any(|window| window == name.as_bytes())
        };
        let mut folders: Vec<&str> = DEFAULT_FOLDERS.into_iter().filter(has).collect();
        if folders.is_empty() {
            folders = DEFAULT_FOLDERS.to_vec();
        }
        self.default_folders.insert(path.into(), folders.clone());
        Ok(folders)
    }

    fn remember(&mut self, objects: &[MappedObject]) {
        let component = &objects[0].user.component;
        for object in objects {
            for name in object.names.iter().chain(&object.info.soname) {
                self.loaded.entry((component.clone(), name.clone())).or_insert_with(|| object.user.path.clone());
            }
        }
    }

    /// The file at a path of the draft, as an object without names.
    fn open(&mut self, path: &str, opened_as: &str, loader: Option<usize>) -> Result<MappedObject, ElfError> {
        let folder = opened_as.trim_start_matches('/').rsplit_once('/').map_or("", |(folder, _)| folder);
        let origin = format!("/{folder}");
        let Some(entry) = self.draft.on_node(path) else { unreachable!("`{path}` was found in the draft") };
        let user = Dependent::of(entry);
        if let Some(info) = self.infos.get(path) {
            return Ok(MappedObject { user, info: info.clone(), names: Vec::new(), origin, loader });
        }
        let program = match &entry.entry.kind {
            Kind::File(body) => look_at(entry, body)?,
            _ => Program::Other,
        };
        let Program::Elf(info) = program else {
            let Dependent { path, component, origin } = user;
            return Err(ElfError::Unusable { path, component, origin, problem: ElfProblem::NoElf });
        };
        let info = Rc::new(info);
        self.infos.insert(path.into(), info.clone());
        Ok(MappedObject { user, info, names: Vec::new(), origin, loader })
    }

    /// Where one object's need is, by the paths that ld.so tries.
    fn find(
        &mut self,
        name: &str,
        objects: &[MappedObject],
        by: usize,
        default: &[&str],
    ) -> Result<Option<FoundLibrary>, ElfError> {
        let object = &objects[by];
        let default = if object.info.no_default_folders { &[] } else { default };
        let candidates = self.candidates(name, search_path(objects, by), default);
        self.draw_first(name, candidates, &object.user)
    }

    fn candidates(&self, name: &str, folders: Vec<String>, default: &[&str]) -> Vec<String> {
        if name.contains('/') {
            return vec![name.into()];
        }
        let is_default = |path: &str| {
            let folder = path.trim_start_matches('/').rsplit_once('/').map_or("", |(folder, _)| folder);
            DEFAULT_FOLDERS.iter().any(|default| *default == folder || default.strip_prefix("usr/") == Some(folder))
        };
        let cached = self.ld_cache.get(name).into_iter().flatten();
        let cached = cached.filter(|path| !default.is_empty() || !is_default(path)).cloned();
        let searched = folders.into_iter().map(|folder| format!("{folder}/{name}"));
        searched.chain(cached).chain(default.iter().map(|folder| format!("{folder}/{name}"))).collect()
    }

    /// What a library finds loaded that some program opens by itself: we do not know which, so it is what the programs of
    /// its component have, or a library of its component.
    fn find_beside(&mut self, name: &str, user: &Dependent) -> Result<Option<FoundLibrary>, ElfError> {
        if let Some(path) = self.loaded.get(&(user.component.clone(), name.to_string())) {
            return Ok(Some(FoundLibrary { path: path.clone(), opened_as: path.clone() }));
        }
        let part = self.supply.part(&user.component);
        let offers = part.into_iter().flat_map(|part| part.offers.keys());
        let beside = offers.filter(|path| path.rsplit('/').next() == Some(name)).cloned().collect();
        self.draw_first(name, beside, user)
    }

    /// Draws in the first of some paths that there is: from the component's own pool, else what the image has already, else
    /// from another pool. A library for other machines is passed over.
    fn draw_first(
        &mut self,
        name: &str,
        candidates: Vec<String>,
        user: &Dependent,
    ) -> Result<Option<FoundLibrary>, ElfError> {
        let reason = Reason::Library { by: user.path.clone(), soname: name.into() };
        for candidate in candidates {
            let own = self.supply.part(&user.component).is_some_and(|part| {
                let end = self.supply.resolve(&candidate, &user.component).end;
                end.is_some_and(|end| part.offers.contains_key(&end))
            });
            let present = if own { None } else { self.present(&candidate) };
            let path = match present {
                Some(path) => Some(path),
                None if !self.is_for_this_machine(&candidate, user)? => None,
                None => self.draft.draw(self.supply, &candidate, &user.component, &reason)?,
            };
            // What a component gives to the boot segment is not there on the node.
            if let Some(path) = path.and_then(|path| self.present(&path)) {
                return Ok(Some(FoundLibrary { path, opened_as: candidate }));
            }
        }
        Ok(None)
    }

    /// A path that the image has already, links followed.
    fn present(&self, path: &str) -> Option<String> {
        let end = self.draft.resolve(path).end?;
        match &self.draft.on_node(&end)?.entry.kind {
            Kind::Hardlink(target) => Some(target.clone()),
            _ => Some(end),
        }
    }

    fn missing(&self, soname: &str, user: &Dependent) -> ElfError {
        let Dependent { path, component, origin } = user.clone();
        let depends = self.supply.part(&component).map_or(&[][..], |part| part.depends);
        let package = super::error::package_with(soname, depends);
        ElfError::MissingLibrary { soname: soname.into(), by: path, component, origin, package }
    }

    fn is_for_this_machine(&self, path: &str, user: &Dependent) -> Result<bool, ElfError> {
        let end = self.supply.resolve(path, &user.component).end;
        let found = end.and_then(|end| self.supply.at(&end, &user.component));
        let Some(Kind::File(body)) = found.map(|found| &found.offered.entry.kind) else { return Ok(true) };
        let read = |cause| ElfError::Read { path: path.into(), place: body.place(), cause };
        let start = body.read_start(ELF_START).map_err(read)?;
        // What is no ELF file at all ends the search: ld.so gives up there.
        Ok(!start.starts_with(b"\x7fELF") || super::parse::is_for_this_machine(&start))
    }
}

struct FoundLibrary {
    /// Of the file itself, in the draft.
    path: String,
    opened_as: String,
}

/// Folders to search before the default ones. DT_RPATH counts only where there is no DT_RUNPATH, and then with those of
/// all that led here.
fn search_path(objects: &[MappedObject], by: usize) -> Vec<String> {
    let object = &objects[by];
    if let Some(runpath) = &object.info.runpath {
        return runpath.iter().map(|folder| object.expand(folder)).collect();
    }
    let chain = std::iter::successors(Some(object), |object| object.loader.map(|loader| &objects[loader]));
    let with_rpath = chain.filter(|object| object.info.runpath.is_none());
    with_rpath.flat_map(|object| object.info.rpath.iter().map(|folder| object.expand(folder))).collect()
}
