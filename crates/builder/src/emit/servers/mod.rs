//! What a root's server has to be told: configuration beside the image, in `servers/`. One file a kind of server.

mod iscsi;
mod nbd;
mod nfs;

use super::Image;
use crate::recipe::{RootMode, image_name, iscsi_target};

/// The folder in an image's own.
pub const FOLDER: &str = "servers";
/// Where the configurations expect images; `docs/network-roots.md` says so too.
const PLACE: &str = "/srv/bootwright";

/// A file of that folder.
#[derive(Debug, PartialEq)]
pub struct ServerFile {
    pub name: &'static str,
    pub text: String,
}

/// The files of the image's mode; of a RAM root none.
pub fn server_files(image: &Image<'_>) -> Vec<ServerFile> {
    let name = &image.recipe.name;
    match image.recipe.root.mode {
        RootMode::Ram | RootMode::Http => Vec::new(),
        RootMode::Nfs => nfs::files(&place(name, RootMode::Nfs, "root")),
        RootMode::Iscsi => iscsi::files(&iscsi_target(name), &place(name, RootMode::Iscsi, "root.img")),
        RootMode::Nbd => nbd::files(name, &place(name, RootMode::Nbd, "root.img")),
    }
}

/// Where the server has a file of the image.
fn place(recipe: &str, mode: RootMode, file: &str) -> String {
    format!("{PLACE}/{}/{file}", image_name(recipe, mode))
}
