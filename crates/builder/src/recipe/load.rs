//! From a name to a checked recipe: find the file, read it with what it extends and its drop-ins, merge, fill in, check.

use super::check::{Check, Laid};
use super::lineage::Earlier;
use super::lineage::Lineage;
use super::merge::merge;
use super::node::{TomlNode, Value, parse_node};
use super::place::At;
use super::problem::{FoundProblem, Problem, RecipeErrors};
use super::schema::{check_schema, recipe_schema};
use super::sources::{SourceFile, Sources};
use super::vars::Set;
use super::{CheckedRecipe, RootMode};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Environment variable: a further folder of recipes.
pub const RECIPES_ENV: &str = "BOOTWRIGHT_RECIPES";

/// Loads a recipe by name (`recipes/NAME.toml`, then `$BOOTWRIGHT_RECIPES/NAME.toml`) or by path (a value with `/` or
/// ending in `.toml`). `sets`: variables by `--set`. `root`: another mode of the root than the recipe's own.
///
/// # Errors
/// Every problem of all its files at once.
pub fn load_recipe(
    name_or_path: &str,
    sets: &[(String, String)],
    root: Option<RootMode>,
) -> Result<CheckedRecipe, RecipeErrors> {
    let path = find_recipe(name_or_path)?;
    let text = crate::input_file::read_text(&path).map_err(|cause| RecipeErrors::Read { path: path.clone(), cause })?;
    Reader::new(path, true, root).recipe(text, sets)
}

/// The same for a text that is no file: pure, so nothing that it names is looked for on disk, and it extends nothing.
pub fn parse_recipe_text(name: &str, text: &str) -> Result<CheckedRecipe, RecipeErrors> {
    Reader::new(PathBuf::from(format!("{name}.toml")), false, None).recipe(text.to_string(), &[])
}

fn find_recipe(name: &str) -> Result<PathBuf, RecipeErrors> {
    if name.contains('/') || name.ends_with(".toml") {
        let not_found = || RecipeErrors::NotFound { name: name.into(), looked: vec![name.into()], known: Vec::new() };
        return std::fs::canonicalize(name).map_err(|_| not_found());
    }
    let dirs: Vec<PathBuf> =
        std::iter::once(PathBuf::from("recipes")).chain(std::env::var_os(RECIPES_ENV).map(PathBuf::from)).collect();
    let looked: Vec<PathBuf> = dirs.iter().map(|dir| dir.join(format!("{name}.toml"))).collect();
    if let Some(path) = looked.iter().find_map(|path| std::fs::canonicalize(path).ok()) {
        return Ok(path);
    }
    let mut known: Vec<String> = dirs
        .iter()
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flatten()
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".toml")?.to_string()))
        .filter(|name| !name.ends_with(LOCAL))
        .collect();
    known.sort();
    Err(RecipeErrors::NotFound { name: name.into(), looked, known })
}

struct Reader {
    path: PathBuf,
    on_disk: bool,
    root: Option<RootMode>,
    sources: Sources,
    problems: Vec<FoundProblem>,
    schema: serde_json::Value,
    /// Trees of all files, bases first.
    trees: Vec<TomlNode>,
    lineage: Lineage,
    /// Of each recipe that was read: itself, its drop-ins, and all that these extend.
    layers: BTreeMap<PathBuf, BTreeSet<Arc<str>>>,
    /// The recipes in the order in which they were laid, without drop-ins: the recipe itself last.
    recipes: Vec<PathBuf>,
}

impl Reader {
    fn new(path: PathBuf, on_disk: bool, root: Option<RootMode>) -> Self {
        let schema = recipe_schema();
        Self {
            path,
            on_disk,
            root,
            sources: Sources::default(),
            problems: Vec::new(),
            schema,
            trees: Vec::new(),
            lineage: Lineage::default(),
            layers: BTreeMap::new(),
            recipes: Vec::new(),
        }
    }

    fn recipe(mut self, text: String, sets: &[(String, String)]) -> Result<CheckedRecipe, RecipeErrors> {
        let path = self.path.clone();
        self.recipe_file(path, text, &mut Vec::new());
        let files_read = self.sources.files.iter().map(|f| f.path.clone()).collect();
        let sets = self.command_line(sets);
        let broken = self.problems.iter().any(|f| matches!(f.problem, Problem::Syntax { .. }));
        let nothing = TomlNode { at: At { file: 0, start: 0, end: 0 }, value: Value::Table(Vec::new()) };
        let mut earlier = Earlier::default();
        let (trees, sources) = (std::mem::take(&mut self.trees), &self.sources);
        let lay = |base, over| merge(base, over, sources, &mut earlier, &mut self.problems);
        let tree = trees.into_iter().fold(nothing, lay);
        let name = self.path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
        let checked = if broken {
            None
        } else {
            let (lock_path, inherited_locks) = self.locks();
            let laid = Laid { tree, earlier, files_read, lineage: self.lineage, lock_path, inherited_locks };
            let check = Check::new(&self.sources, &mut self.problems, self.path.clone(), self.on_disk, self.root);
            check.recipe(laid, &name, &sets)
        };
        let mut problems = self.problems;
        match checked {
            Some(recipe) if problems.is_empty() => Ok(recipe),
            _ => {
                problems.sort_by_key(|f| f.at);
                problems.dedup();
                Err(RecipeErrors::Problems { name, sources: self.sources, problems })
            }
        }
    }

    /// Reads a recipe, before it what it extends, and after it its drop-ins. `chain`: the files that led here.
    fn recipe_file(&mut self, path: PathBuf, text: String, chain: &mut Vec<PathBuf>) {
        let number = self.sources.files.len();
        chain.push(path.clone());
        let mut layers = self.layer(path.clone(), text, BTreeSet::new(), chain);
        let drop_ins = if self.on_disk { drop_ins(&path) } else { Ok(Vec::new()) };
        let drop_ins = drop_ins.unwrap_or_else(|(path, cause)| {
            self.unreadable(At { file: number, start: 0, end: 0 }, &path, &cause);
            Vec::new()
        });
        for drop_in in drop_ins {
            match crate::input_file::read_text(&drop_in) {
                Ok(text) => layers = self.layer(drop_in, text, layers, chain),
                Err(e) => self.unreadable(At { file: number, start: 0, end: 0 }, &drop_in, &e),
            }
        }
        chain.pop();
        self.recipes.push(path.clone());
        self.layers.insert(path, layers);
    }

    /// Reads one file and, before it, what it extends. `below`: what it is laid over beside that. Returns all of it, and the
    /// file itself.
    fn layer(
        &mut self,
        path: PathBuf,
        text: String,
        mut below: BTreeSet<Arc<str>>,
        chain: &mut Vec<PathBuf>,
    ) -> BTreeSet<Arc<str>> {
        let number = self.sources.files.len();
        let (node, syntax) = parse_node(number, &text);
        let name: Arc<str> = shown(&path).into();
        self.sources.files.push(SourceFile { shown: name.clone(), path: path.clone(), text });
        let broken = !syntax.is_empty();
        self.problems.extend(syntax);
        if !broken {
            check_schema(&node, &self.schema, &mut self.problems);
        }
        for base in extends(&node) {
            let base = self.base(&path, base, chain);
            below.extend(base.and_then(|base| self.layers.get(&base)).into_iter().flatten().cloned());
        }
        self.trees.push(node);
        self.lineage.lay(name.clone(), below.clone());
        below.insert(name);
        below
    }

    /// Reads a recipe that `from` extends, unless it was read before. Returns its path.
    fn base(&mut self, from: &Path, base: &TomlNode, chain: &mut Vec<PathBuf>) -> Option<PathBuf> {
        let text = base.text()?;
        let file = if text.ends_with(".toml") { text.to_string() } else { format!("{text}.toml") };
        let path = from.parent().unwrap_or(Path::new("")).join(file);
        let found = if self.on_disk { std::fs::canonicalize(&path).ok() } else { None };
        let Some(path) = found else {
            self.report(base.at, Problem::MissingPath { what: "recipe", path: shown(&path).into() });
            return None;
        };
        if let Some(start) = chain.iter().position(|p| *p == path) {
            let chain = chain[start..].iter().chain([&path]).map(|p| shown(p)).collect();
            self.report(base.at, Problem::ExtendsCycle { chain });
            return None;
        }
        if !self.sources.files.iter().any(|f| f.path == path) {
            match crate::input_file::read_text(&path) {
                Ok(text) => self.recipe_file(path.clone(), text, chain),
                Err(e) => self.unreadable(base.at, &path, &e),
            }
        }
        Some(path)
    }

    /// Where the recipe's pins go, and where those of the recipes are that it extends: the nearest first, of several that do not
    /// extend each other the one that is written first.
    fn locks(&self) -> (PathBuf, Vec<PathBuf>) {
        let mut left: Vec<&PathBuf> = self.recipes.iter().collect();
        left.pop();
        let mut locks = self.locks_of(&self.path);
        let own = locks.remove(0);
        while !left.is_empty() {
            let below = |lower: &&PathBuf| left.iter().any(|upper| upper != lower && self.is_over(upper, lower));
            // Nothing extends itself, so one is left that nothing else extends.
            let nearest = left.iter().position(|path| !below(path)).unwrap_or(0);
            locks.extend(self.locks_of(left.remove(nearest)));
        }
        (own, locks)
    }

    /// `NAME.lock`; before it `NAME.local.lock`, if a local file has a say: what one machine changes is in no lock that ships.
    fn locks_of(&self, recipe: &Path) -> Vec<PathBuf> {
        let is_local = |file: &Arc<str>| file.ends_with(&*format!("{LOCAL}.toml"));
        let local = self.layers.get(recipe).is_some_and(|layers| layers.iter().any(is_local));
        let local = local.then(|| recipe.with_extension(format!("{}.lock", &LOCAL[1..])));
        local.into_iter().chain([recipe.with_extension("lock")]).collect()
    }

    fn is_over(&self, upper: &Path, lower: &Path) -> bool {
        self.layers.get(upper).is_some_and(|layers| layers.contains(&*shown(lower)))
    }

    fn unreadable(&mut self, at: At, path: &Path, cause: &std::io::Error) {
        self.report(at, Problem::Unreadable { path: shown(path).into(), cause: cause.to_string() });
    }

    fn report(&mut self, at: At, problem: Problem) {
        self.problems.push(FoundProblem { at, problem });
    }

    /// `--set` as a text of its own, so that problems with it can point at it.
    fn command_line(&mut self, sets: &[(String, String)]) -> Vec<Set> {
        let file = self.sources.files.len();
        let mut text = String::new();
        let mut out = Vec::new();
        for (name, value) in sets {
            let start = text.len();
            text.push_str(&format!("{name}={value}"));
            out.push(Set { name: name.clone(), value: value.clone(), at: At { file, start, end: text.len() } });
            text.push('\n');
        }
        if !out.is_empty() {
            self.sources.files.push(SourceFile { path: "--set".into(), shown: "--set".into(), text });
        }
        out
    }
}

/// End of the name of a recipe's own drop-in for one machine: `NAME.local.toml`.
const LOCAL: &str = ".local";

/// What is laid over a recipe without its saying so: `NAME.d/*.toml` in the order of their names, then `NAME.local.toml`.
///
/// # Errors
/// What cannot be read, and why.
fn drop_ins(recipe: &Path) -> Result<Vec<PathBuf>, (PathBuf, std::io::Error)> {
    let folder = recipe.with_extension("d");
    let failed = |cause| (folder.clone(), cause);
    let mut found = Vec::new();
    match std::fs::read_dir(&folder) {
        Ok(entries) => {
            for entry in entries {
                found.push(entry.map_err(failed)?.path());
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(cause) => return Err(failed(cause)),
    }
    let is_hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    found.retain(|path| path.extension().is_some_and(|end| end == "toml") && !is_hidden(path));
    found.sort();
    let local = local_of(recipe);
    if local.symlink_metadata().is_ok() {
        found.push(local);
    }
    Ok(found)
}

fn local_of(recipe: &Path) -> PathBuf {
    recipe.with_extension(format!("{}.toml", &LOCAL[1..]))
}

fn extends(node: &TomlNode) -> Vec<&TomlNode> {
    match node.get("extends") {
        Some(one @ TomlNode { value: Value::Text(_), .. }) => vec![one],
        Some(list) => list.items().iter().collect(),
        None => Vec::new(),
    }
}

/// Relative to the current folder where it lies below it.
pub(crate) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().and_then(std::fs::canonicalize);
    let relative = here.ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf));
    relative.as_deref().unwrap_or(path).display().to_string()
}
