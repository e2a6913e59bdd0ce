//! The JSON schema of recipes, and a walk of a parsed file against it: unknown keys, wrong types, bad choices.

use super::node::{TomlNode, Value};
use super::place::At;
use super::problem::{FoundProblem, Problem};
use super::recipe_file::RecipeFile;
use serde_json::Value as Json;

/// JSON schema (2020-12) of a recipe file.
pub fn recipe_schema() -> Json {
    schemars::schema_for!(RecipeFile).to_value()
}

/// Compares a file with the schema. Keys that the schema requires are reported where they are missing.
pub fn check_schema(file: &TomlNode, schema: &Json, problems: &mut Vec<FoundProblem>) {
    Walk { root: schema, problems }.node(file, schema, "this file");
}

struct Walk<'s, 'p> {
    root: &'s Json,
    problems: &'p mut Vec<FoundProblem>,
}

impl<'s> Walk<'s, '_> {
    fn report(&mut self, at: At, problem: Problem) {
        self.problems.push(FoundProblem { at, problem });
    }

    fn node(&mut self, node: &TomlNode, schema: &'s Json, place: &str) {
        let alternatives = self.alternatives(schema);
        let fits: Vec<&Json> = alternatives.iter().copied().filter(|a| takes(a, &node.value)).collect();
        let Some(first) = fits.first() else {
            let problem = Problem::WrongType { expected: expected(&alternatives), found: node.type_name() };
            return self.report(node.at, problem);
        };
        match &node.value {
            Value::Text(text) => self.choice(node.at, text, &fits),
            Value::Int(n) => self.range(node.at, *n, first),
            Value::List(items) => {
                for item in items {
                    self.node(item, &first["items"], place);
                }
            }
            Value::Table(_) => self.table(node, first, place),
            Value::Bool(_) | Value::Float(_) | Value::Other(_) => {}
        }
    }

    /// The schema with `$ref` followed and `anyOf`/`oneOf` laid flat.
    fn alternatives(&self, schema: &'s Json) -> Vec<&'s Json> {
        if let Some(name) = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/")) {
            return self.alternatives(&self.root["$defs"][name]);
        }
        match schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
            Some(list) => list.iter().flat_map(|s| self.alternatives(s)).collect(),
            None => vec![schema],
        }
    }

    /// A string where only some are possible. One with a variable in it is judged once the variable is filled in.
    fn choice(&mut self, at: At, text: &str, fits: &[&Json]) {
        let choices: Vec<String> = fits.iter().flat_map(|s| choices(s)).collect();
        let free = fits.iter().any(|s| choices_of_none(s));
        if !free && !text.contains("${") && !choices.iter().any(|c| c == text) {
            self.report(at, Problem::NotAChoice { found: text.into(), choices });
        }
    }

    fn range(&mut self, at: At, n: i64, schema: &Json) {
        let (low, high) = match schema["format"].as_str() {
            Some("uint8") => (0, i64::from(u8::MAX)),
            Some("uint32") => (0, i64::from(u32::MAX)),
            Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
            _ => (i64::MIN, i64::MAX),
        };
        let least = schema["minimum"].as_i64().unwrap_or(low);
        let most = schema["maximum"].as_i64().unwrap_or(high);
        if !(least..=most).contains(&n) {
            self.report(at, Problem::OutOfRange { found: n, least, most });
        }
    }

    fn table(&mut self, node: &TomlNode, schema: &'s Json, place: &str) {
        let named = schema["properties"].as_object();
        let known: Vec<String> = named.iter().flat_map(|p| p.keys().cloned()).collect();
        let mut strange = false;
        for entry in node.entries() {
            let below = format!("`{}`", entry.key);
            if let Some(property) = named.and_then(|p| p.get(&entry.key)) {
                self.node(&entry.node, property, &below);
            } else if schema["additionalProperties"].is_object() {
                self.node(&entry.node, &schema["additionalProperties"], &below);
            } else {
                strange = true;
                self.report(entry.key_at, Problem::UnknownKey { key: entry.key.clone(), known: known.clone() });
            }
        }
        // A key that is missing here is most likely the unknown one.
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            if !strange && node.get(key).is_none() {
                self.report(node.at, Problem::MissingKey { key: key.into(), place: place.into() });
            }
        }
    }
}

fn types(schema: &Json) -> Vec<&str> {
    match &schema["type"] {
        Json::String(one) => vec![one],
        Json::Array(many) => many.iter().filter_map(Json::as_str).collect(),
        _ if schema["const"].is_string() => vec!["string"],
        _ => Vec::new(),
    }
}

fn takes(schema: &Json, value: &Value) -> bool {
    let types = types(schema);
    match value {
        Value::Bool(_) => types.contains(&"boolean"),
        Value::Int(_) => types.contains(&"integer") || types.contains(&"number"),
        Value::Float(_) => types.contains(&"number"),
        Value::Text(_) => types.contains(&"string"),
        Value::List(_) => types.contains(&"array"),
        Value::Table(_) => types.contains(&"object"),
        Value::Other(_) => false,
    }
}

fn choices(schema: &Json) -> Vec<String> {
    let listed = schema["enum"].as_array().into_iter().flatten().chain(schema.get("const"));
    listed.filter_map(Json::as_str).map(String::from).collect()
}

fn choices_of_none(schema: &Json) -> bool {
    schema.get("enum").is_none() && schema.get("const").is_none()
}

fn expected(alternatives: &[&Json]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in alternatives.iter().flat_map(|a| types(a)).filter_map(type_name) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(" or ")
}

fn type_name(json: &str) -> Option<&'static str> {
    match json {
        "boolean" => Some("a boolean"),
        "integer" => Some("an integer"),
        "number" => Some("a number"),
        "string" => Some("a string"),
        "array" => Some("a list"),
        "object" => Some("a table"),
        _ => None,
    }
}
