//! `[[overlay]]` and `[[file]]`.

use super::Check;
use crate::local::{Modes, parse_stated};
use crate::recipe::file::{InlineFileFile, OverlayFile};
use crate::recipe::node::TomlNode;
use crate::recipe::problem::Problem;
use crate::recipe::{InlineBody, InlineFile, Overlay};
use std::path::Path;

impl Check<'_> {
    pub(super) fn overlays(&mut self, tree: &TomlNode) -> Vec<Overlay> {
        let items = tree.get("overlay").map_or(&[][..], TomlNode::items);
        items.iter().filter_map(|node| self.overlay(node)).collect()
    }

    fn overlay(&mut self, node: &TomlNode) -> Option<Overlay> {
        let enabled = self.condition(node);
        self.globs(node, "exclude");
        let file: OverlayFile = self.read(Some(node))?;
        if let Some(name) = &file.name {
            self.check_name(node.at_of("name"), name);
        }
        let place = file.name.as_ref().map_or("this overlay".into(), |name| format!("overlay `{name}`"));
        let dir = self.need(file.dir, "dir", node, &place)?;
        let at = node.at_of("dir");
        let origin = self.origin(if at.file == node.at.file { node.at } else { at });
        let dir = self.host_path(at, &dir);
        self.check_there(at, "folder", &dir, Path::is_dir);
        let to = self.image_path(node.at_of("to"), &file.to);
        let modes = self.modes(node);
        let secrets = file.secrets.and(file.secrets_reason);
        let OverlayFile { name, exclude, segment, .. } = file;
        enabled.then_some(Overlay { origin, name, dir, to, exclude, segment, modes, secrets })
    }

    /// Permissions and owners by path below a folder.
    pub(in crate::recipe) fn modes(&mut self, node: &TomlNode) -> Modes {
        let mut modes = Modes::new();
        for entry in node.get("modes").map_or(&[][..], TomlNode::entries) {
            let inner = self.image_file(entry.key_at, &entry.key);
            let Some(text) = entry.node.text() else { continue };
            match parse_stated(text) {
                Some(stated) => drop(modes.insert(inner, stated)),
                None => {
                    let expected = "octal permissions, perhaps with an owner";
                    let problem = Problem::BadValue { found: text.into(), expected, example: "0640 0:42" };
                    self.report(entry.node.at, problem);
                }
            }
        }
        modes
    }

    pub(super) fn files(&mut self, tree: &TomlNode) -> Vec<InlineFile> {
        let items = tree.get("file").map_or(&[][..], TomlNode::items);
        items.iter().filter_map(|node| self.file(node)).collect()
    }

    fn file(&mut self, node: &TomlNode) -> Option<InlineFile> {
        let enabled = self.condition(node);
        let place = format!("file `{}`", node.text_of("path").unwrap_or_default());
        let kind = self.exactly_one(node, &["content", "link", "dir", "init"], &place);
        let file: InlineFileFile = self.read(Some(node))?;
        let path = self.image_file(node.at_of("path"), &file.path);
        let (body, default_mode) = match kind? {
            "content" => (InlineBody::Text(file.content?), 0o644),
            "link" => (InlineBody::Symlink(file.link?), 0o777),
            "dir" => (InlineBody::Dir, 0o755),
            _ => (InlineBody::Init, 0o755),
        };
        if matches!(&body, InlineBody::Symlink(target) if target.is_empty() || target.contains(['\0', '\n'])) {
            let found = node.text_of("link").unwrap_or_default().to_string();
            let problem = Problem::BadValue { found, expected: "the target of a symlink", example: "/usr/bin/program" };
            self.report(node.at_of("link"), problem);
        }
        if let (Some(_), InlineBody::Symlink(_)) = (&file.mode, &body) {
            self.report(node.at_of("mode"), Problem::NotUsed { key: "mode", reason: "a symlink has none" });
        }
        let mode = file.mode.map_or(default_mode, |text| self.mode(node.at_of("mode"), &text));
        let (uid, gid, segment) = (file.uid, file.gid, file.segment);
        let (origin, changes) = (self.origin(node.at), self.earlier_origins(node.at));
        enabled.then_some(InlineFile { origin, changes, path, body, mode, uid, gid, segment })
    }
}
