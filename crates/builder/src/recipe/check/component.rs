//! `[[component]]`.

use super::Check;
use crate::recipe::component::{Component, ComponentFile};
use crate::recipe::node::TomlNode;
use crate::recipe::problem::Problem;

/// Names that the tree uses for files that come from no component.
const RESERVED: [&str; 2] = ["recipe", "init"];

impl Check<'_> {
    pub(super) fn components(&mut self, tree: &TomlNode) -> Vec<Component> {
        let items = tree.get("component").map_or(&[][..], TomlNode::items);
        items.iter().filter_map(|node| self.component(node)).collect()
    }

    fn component(&mut self, node: &TomlNode) -> Option<Component> {
        let enabled = self.condition(node);
        self.globs(node, "paths");
        self.globs(node, "exclude");
        let source = self.source(node);
        let file: ComponentFile = self.read(Some(node))?;
        self.check_name(node.at_of("name"), &file.name);
        if RESERVED.contains(&file.name.as_str()) {
            let expected = "free as a component's name";
            let problem = Problem::BadValue { found: file.name.clone(), expected, example: "tools" };
            self.report(node.at_of("name"), problem);
        }
        for (i, library) in file.libraries.iter().enumerate() {
            if library.is_empty() || library.contains('/') {
                let expected = "the file name of a library";
                let problem = Problem::BadValue { found: library.clone(), expected, example: "libnss_files.so.2" };
                self.report(node.at_item("libraries", i), problem);
            }
        }
        let mut rename = std::collections::BTreeMap::new();
        for entry in node.get("rename").map_or(&[][..], TomlNode::entries) {
            let from = self.image_file(entry.key_at, &entry.key);
            let to = self.image_file(entry.node.at, entry.node.text().unwrap_or_default());
            rename.insert(from, to);
        }
        let join = file.join.as_deref().map(|path| self.image_file(node.at_of("join"), path));
        if join.is_some() && file.paths.as_ref().is_some_and(Vec::is_empty) {
            let problem =
                Problem::BadValue { found: "[]".into(), expected: "the files to join", example: "etc/certs/*.crt" };
            self.report(node.at_of("paths"), problem);
        }
        Some(Component {
            name: file.name,
            origin: self.origin(node.at),
            enabled,
            source: source?,
            only_needed: file.paths.as_ref().is_some_and(Vec::is_empty),
            paths: file.paths.unwrap_or_default(),
            exclude: file.exclude,
            libraries: file.libraries,
            rename,
            join,
            segment: file.segment,
            secrets: file.secrets.and(file.secrets_reason),
        })
    }

    /// Names of all components that are written, those with problems included.
    pub(super) fn component_names(tree: &TomlNode) -> Vec<String> {
        let items = tree.get("component").map_or(&[][..], TomlNode::items);
        items.iter().filter_map(|n| n.text_of("name")).map(String::from).collect()
    }

    /// A reference to a component.
    pub(super) fn check_component(&mut self, tree: &TomlNode, at: crate::recipe::place::At, name: &str) {
        let known = Self::component_names(tree);
        if !known.iter().any(|k| k == name) {
            self.report(at, Problem::Unknown { what: "component", name: name.into(), known });
        }
    }
}
