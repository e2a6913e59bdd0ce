//! Variables: their values, `${name}` in strings, `when` conditions, and templates.

use super::VarValue;
use super::file::{Scalar, VarFile, VarType};
use super::node::{TomlEntry, TomlNode, Value};
use super::place::At;
use super::problem::{FoundProblem, Problem};
use super::sources::Sources;
use std::collections::BTreeMap;

/// Filled in on the node, when a service starts, a volume is attached or mirrors are written: not ours.
pub const ON_NODE: [&str; 5] = ["ip", "ip6", "hostname", "mac", "gateway"];

pub type Vars = BTreeMap<String, VarValue>;
/// What a variable may be, of those for which it is written.
pub type Choices = BTreeMap<String, Vec<String>>;

impl std::fmt::Display for VarValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(b) => b.fmt(f),
            Self::Int(n) => n.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

fn kind_name(kind: VarType) -> &'static str {
    match kind {
        VarType::Bool => "`true` or `false`",
        VarType::Int => "an integer",
        VarType::Text => "a text",
    }
}

fn parse_value(kind: VarType, text: &str) -> Option<VarValue> {
    match kind {
        VarType::Bool => text.parse().ok().map(VarValue::Bool),
        VarType::Int => text.parse().ok().map(VarValue::Int),
        VarType::Text => Some(VarValue::Text(text.to_string())),
    }
}

fn default_value(kind: VarType, default: Scalar) -> Option<VarValue> {
    match (kind, default) {
        (VarType::Bool, Scalar::Bool(b)) => Some(VarValue::Bool(b)),
        (VarType::Int, Scalar::Int(n)) => Some(VarValue::Int(n)),
        (VarType::Text, Scalar::Text(text)) => Some(VarValue::Text(text)),
        _ => None,
    }
}

/// One `--set`: name, value, and where it stands in the text that stands for the command line.
pub struct Set {
    pub name: String,
    pub value: String,
    pub at: At,
}

/// The value of every declared variable. `table` is the merged `[vars]`; `read` gives a declaration, or `None` when it has
/// problems that are known already.
pub fn check_vars(
    table: &TomlNode,
    read: impl Fn(&TomlNode) -> Option<VarFile>,
    sets: &[Set],
    problems: &mut Vec<FoundProblem>,
) -> Vars {
    let mut vars = Vars::new();
    for set in sets.iter().filter(|s| table.get(&s.name).is_none()) {
        let known = table.entries().iter().map(|e| e.key.clone()).collect();
        let problem = Problem::Unknown { what: "variable of --set", name: set.name.clone(), known };
        problems.push(FoundProblem { at: set.at, problem });
    }
    for entry in table.entries() {
        let name = entry.key.clone();
        if ON_NODE.contains(&name.as_str()) {
            problems.push(FoundProblem { at: entry.key_at, problem: Problem::ReservedVar { name } });
        } else if !is_var_name(&name) {
            let expected = "a variable's name: a letter, then letters, digits and `_`";
            let problem = Problem::BadValue { found: name, expected, example: "kernel_suite" };
            problems.push(FoundProblem { at: entry.key_at, problem });
        } else if let Some(value) = read(&entry.node).and_then(|file| check_var(entry, file, sets, problems)) {
            vars.insert(name, value);
        }
    }
    vars
}

/// One variable: its default, or what `--set` gives it.
fn check_var(entry: &TomlEntry, file: VarFile, sets: &[Set], problems: &mut Vec<FoundProblem>) -> Option<VarValue> {
    let (name, node) = (&entry.key, &entry.node);
    let mut report = |at, problem| problems.push(FoundProblem { at, problem });
    let mut missing = |key: &str| {
        let place = format!("variable `{name}`");
        report(node.at, Problem::MissingKey { key: key.into(), place });
    };
    let Some(kind) = file.kind else {
        missing("type");
        return None;
    };
    let Some(default) = file.default else {
        missing("default");
        return None;
    };
    if let (VarType::Bool | VarType::Int, [_, ..]) = (kind, &file.choices[..]) {
        let reason = "only a text has choices";
        report(node.at_of("choices"), Problem::NotUsed { key: "choices", reason });
    }
    let expected = kind_name(kind);
    let mut value = default_value(kind, default);
    if value.is_none() {
        let found = node.get("default").map_or("something else", TomlNode::type_name).to_string();
        let problem = Problem::VarType { name: name.clone(), expected, place: "its default", found };
        report(node.at_of("default"), problem);
    }
    let is_choice = |value: &VarValue| file.choices.is_empty() || file.choices.contains(&value.to_string());
    let not_a_choice =
        |value: &VarValue| Problem::NotAChoice { found: value.to_string(), choices: file.choices.clone() };
    if let Some(default) = value.as_ref().filter(|default| !is_choice(default)) {
        report(node.at_of("default"), not_a_choice(default));
    }
    for set in sets.iter().filter(|s| s.name == *name) {
        match parse_value(kind, &set.value) {
            Some(given) if is_choice(&given) => value = Some(given),
            Some(given) => report(set.at, not_a_choice(&given)),
            None => {
                let found = format!("`{}`", set.value);
                let problem = Problem::VarType { name: name.clone(), expected, place: "the value of --set", found };
                report(set.at, problem);
            }
        }
    }
    value
}

fn is_var_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Fills `${name}` into every string of a merged recipe but those of `[vars]` and `when`.
pub struct Fill<'a> {
    pub vars: &'a Vars,
    /// Declared names, those included whose value is in doubt.
    pub declared: &'a [String],
    pub sources: &'a Sources,
    pub problems: &'a mut Vec<FoundProblem>,
}

impl Fill<'_> {
    pub fn recipe(&mut self, node: &mut TomlNode) {
        if let Value::Table(entries) = &mut node.value {
            for entry in entries.iter_mut().filter(|e| !["vars", "when"].contains(&&e.key[..])) {
                if let ("variant", Value::List(variants)) = (&entry.key[..], &mut entry.node.value) {
                    variants.iter_mut().for_each(|variant| self.recipe(variant));
                    continue;
                }
                self.node(&mut entry.node, &entry.key, matches!(&entry.key[..], "service" | "state" | "registry"));
            }
        }
    }

    /// `key`: the nearest key above the node.
    fn node(&mut self, node: &mut TomlNode, key: &str, on_node: bool) {
        let at = node.at;
        match &mut node.value {
            Value::Text(text) => {
                *text = self.text(text, at, on_node);
                // The content of a file may be anything. Paths, arguments and names are C strings for the kernel.
                if key != "content" && text.contains('\0') {
                    self.problems.push(FoundProblem { at, problem: Problem::Nul { key: key.into() } });
                }
            }
            Value::List(items) => items.iter_mut().for_each(|item| self.node(item, key, on_node)),
            Value::Table(entries) => {
                for entry in entries.iter_mut().filter(|e| e.key != "when") {
                    self.node(&mut entry.node, &entry.key, on_node);
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str, at: At, on_node: bool) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, reference) = rest.split_at(start);
            if let Some(plain) = before.strip_suffix('$') {
                out.push_str(plain);
                out.push_str("${");
                rest = &reference[2..];
                continue;
            }
            out.push_str(before);
            let Some(end) = reference.find('}') else {
                self.problems
                    .push(FoundProblem { at, problem: Problem::OpenReference { text: first_line(reference) } });
                return out;
            };
            let name = &reference[2..end];
            match self.vars.get(name) {
                Some(value) => out.push_str(&value.to_string()),
                None if on_node && ON_NODE.contains(&name) => out.push_str(&reference[..=end]),
                // Its own declaration is reported.
                None if self.declared.iter().any(|d| d == name) => {}
                None => {
                    let at = self.sources.inside(at, &reference[..=end]);
                    let known = self.declared.to_vec();
                    let problem = Problem::Unknown { what: "variable", name: name.to_string(), known };
                    self.problems.push(FoundProblem { at, problem });
                }
            }
            rest = &reference[end + 1..];
        }
        out.push_str(rest);
        out
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(40).collect()
}

/// Decides a `when`: `true`, `false`, `name`, `!name` (boolean variables), `name == value`, `name != value`.
pub fn parse_condition(text: &str, vars: &Vars, declared: &[String], choices: &Choices) -> Result<bool, Problem> {
    let bad = |cause| Problem::BadCondition { text: text.to_string(), cause };
    let look_up = |name: &str| match vars.get(name) {
        Some(value) => Ok(Some(value)),
        // Its own declaration is reported.
        None if declared.iter().any(|d| d == name) => Ok(None),
        None if !is_var_name(name) => Err(bad("it has no name of a variable")),
        None => Err(Problem::Unknown { what: "variable of `when`", name: name.into(), known: declared.to_vec() }),
    };
    for (operator, equal) in [("==", true), ("!=", false)] {
        if let Some((name, value)) = text.split_once(operator) {
            let wanted = value.trim().trim_matches(['"', '\'']);
            let found = look_up(name.trim())?;
            // It would never be that, whatever it is set to.
            if let Some(choices) = choices.get(name.trim()).filter(|all| all.iter().all(|choice| choice != wanted)) {
                return Err(Problem::NotAChoice { found: wanted.into(), choices: choices.clone() });
            }
            return Ok(found.is_none_or(|v| (v.to_string() == wanted) == equal));
        }
    }
    let (name, wanted) = match text.trim().strip_prefix('!') {
        Some(name) => (name.trim(), false),
        None => (text.trim(), true),
    };
    match name {
        "true" => return Ok(wanted),
        "false" => return Ok(!wanted),
        _ => {}
    }
    match look_up(name)? {
        None => Ok(true),
        Some(VarValue::Bool(b)) => Ok(*b == wanted),
        Some(_) => Err(bad("the variable is no boolean: compare it with `==`")),
    }
}

/// Why a template cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[error("bad template `{name}`: {cause}")]
pub struct TemplateError {
    pub name: String,
    /// Line, what is wrong.
    pub cause: String,
}

/// Renders an overlay's `.j2` file with the recipe's variables. An unknown variable is an error; the last newline stays.
pub fn render_template(name: &str, text: &str, vars: &Vars) -> Result<String, TemplateError> {
    let mut env = minijinja::Environment::new();
    env.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    // A line with just a `{% ... %}` leaves nothing behind.
    let syntax = minijinja::syntax::SyntaxConfig::builder()
        .keep_trailing_newline(true)
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .expect("the default delimiters are valid");
    env.set_syntax(syntax);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    let values = vars.iter().map(|(name, value)| {
        let value = match value {
            VarValue::Bool(b) => minijinja::Value::from(*b),
            VarValue::Int(n) => minijinja::Value::from(*n),
            VarValue::Text(text) => minijinja::Value::from(text.as_str()),
        };
        (name.as_str(), value)
    });
    env.render_named_str(name, text, minijinja::Value::from_pairs(values))
        .map_err(|e| TemplateError { name: name.into(), cause: e.to_string() })
}
