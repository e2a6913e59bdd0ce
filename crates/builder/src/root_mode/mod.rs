//! The modes of the root: what an image and its place on a server are called in each, and what its server has to be told. One
//! file a kind of server.

mod iscsi;
mod nbd;
mod nfs;

use bootwright_contract as contract;
use clap::ValueEnum;

/// Where the configurations expect images; `docs/network-roots.md` says so too.
const PLACE: &str = "/srv/bootwright";

/// Where the root is when the machine runs.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum RootMode {
    /// In memory, from the initrd.
    Ram,
    /// In memory, fetched over HTTP.
    Http,
    /// Files on an NFS server.
    Nfs,
    /// An image on an iSCSI target.
    Iscsi,
    /// An image on an NBD server.
    Nbd,
}

impl RootMode {
    /// All modes.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Those whose root is no part of the initrd.
    pub fn on_network() -> impl Iterator<Item = Self> {
        Self::all().iter().copied().filter(|mode| mode.is_network())
    }

    /// The word in recipes, on the command line and in messages.
    pub fn as_str(self) -> &'static str {
        contract::RootMode::from(self).word()
    }

    /// What the URLs of its sources begin with.
    pub fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::Ram => &[],
            Self::Http => &["http", "https"],
            Self::Nfs => &["nfs"],
            Self::Iscsi => &["iscsi"],
            Self::Nbd => &["nbd"],
        }
    }

    /// The root is no part of the initrd.
    pub fn is_network(self) -> bool {
        self != Self::Ram
    }

    /// The mode that a source's URL belongs to; `None` for a scheme that none has.
    pub fn of_source(url: &str) -> Option<Self> {
        let (scheme, _) = url.split_once("://")?;
        Self::all().iter().copied().find(|mode| mode.schemes().contains(&scheme))
    }
}

impl From<RootMode> for contract::RootMode {
    fn from(mode: RootMode) -> Self {
        match mode {
            RootMode::Ram => Self::Ram,
            RootMode::Http => Self::Http,
            RootMode::Nfs => Self::Nfs,
            RootMode::Iscsi => Self::Iscsi,
            RootMode::Nbd => Self::Nbd,
        }
    }
}

impl std::fmt::Display for RootMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Name of an image, the folder below `out/`: the recipe's for a RAM root, `<recipe>-<mode>` for the others.
pub fn image_name(recipe: &str, mode: RootMode) -> String {
    if mode.is_network() { format!("{recipe}-{mode}") } else { recipe.into() }
}

/// What follows the server in the source of a recipe that names none: where `docs/network-roots.md` says that a server
/// should have it.
pub fn default_place(recipe: &str, mode: RootMode) -> String {
    let image = image_name(recipe, mode);
    match mode {
        RootMode::Ram => String::new(),
        RootMode::Http => format!("{image}/root.img"),
        RootMode::Nfs => format!("srv/bootwright/{image}/root"),
        RootMode::Iscsi => iscsi_target(recipe),
        RootMode::Nbd => recipe.into(),
    }
}

/// iSCSI name of the target that holds a recipe's root (RFC 3720 section 3.2.6.3.1). The domain `internal` is nobody's
/// and has been reserved for private use since that date.
fn iscsi_target(recipe: &str) -> String {
    format!("iqn.2024-07.internal.bootwright:{}", recipe.to_lowercase().replace(['_', '+'], "-"))
}

/// The source of a recipe that names none: an empty host is the server that the machine was booted from.
pub fn default_source(recipe: &str, mode: RootMode) -> String {
    format!("{mode}:///{}", default_place(recipe, mode))
}

/// A configuration of a server.
#[derive(Debug, PartialEq)]
pub struct ServerFile {
    pub name: &'static str,
    pub text: String,
}

/// A file of the image that a server has as a disk.
struct Disk {
    /// In `out/`.
    file: &'static str,
    /// Absolute path on the server.
    path: String,
}

/// The configurations of servers for a recipe's root, and for its container images where there are some; for a RAM root none.
pub fn server_files(recipe: &str, mode: RootMode, images: bool) -> Vec<ServerFile> {
    let files: &[&str] = if images { &["root.img", "images.img"] } else { &["root.img"] };
    let disks: Vec<Disk> = files.iter().map(|file| Disk { file, path: place(recipe, mode, file) }).collect();
    match mode {
        RootMode::Ram | RootMode::Http => Vec::new(),
        RootMode::Nfs => nfs::files(&place(recipe, mode, "root"), images),
        RootMode::Iscsi => iscsi::files(&iscsi_target(recipe), &disks),
        RootMode::Nbd => nbd::files(recipe, &disks),
    }
}

/// What a server's configuration says first: where its disks should be.
fn copy_words(disks: &[Disk]) -> String {
    disks.iter().map(|disk| format!("# Copy {} to {}, or change the path.\n", disk.file, disk.path)).collect()
}

/// Where the server has a file of the image.
fn place(recipe: &str, mode: RootMode, file: &str) -> String {
    format!("{PLACE}/{}/{file}", image_name(recipe, mode))
}

/// Words in a row: `a, b or c`.
pub fn any_of<W: std::fmt::Display>(words: impl IntoIterator<Item = W>) -> String {
    let mut words: Vec<String> = words.into_iter().map(|word| word.to_string()).collect();
    match (words.pop(), words.is_empty()) {
        (Some(last), false) => format!("{} or {last}", words.join(", ")),
        (last, _) => last.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modes_are_those_of_the_boot_config() {
        let known: Vec<_> = RootMode::all().iter().map(|mode| contract::RootMode::from(*mode)).collect();
        assert_eq!(known, contract::RootMode::ALL);
        for mode in RootMode::all() {
            let written =
                [serde_json::to_value(mode).unwrap(), serde_json::to_value(contract::RootMode::from(*mode)).unwrap()];
            assert_eq!(written, [mode.as_str(), mode.as_str()]);
            assert_eq!(RootMode::from_str(mode.as_str(), false).as_ref(), Ok(mode), "--root");
        }
    }

    #[test]
    fn a_network_roots_default_source_is_its_own() {
        for mode in RootMode::on_network() {
            assert_eq!(RootMode::of_source(&default_source("worker", mode)), Some(mode), "{mode}");
        }
        assert_eq!(RootMode::of_source("https://h/x"), Some(RootMode::Http));
        assert_eq!(RootMode::of_source("ram://h/x"), None);
    }

    #[test]
    fn each_network_mode_has_a_set_of_modules_and_stands_in_the_documents() {
        let base = include_str!("../../../../recipes/base.toml");
        let documents = [
            ("docs/recipes.md", include_str!("../../../../docs/recipes.md")),
            ("docs/network-roots.md", include_str!("../../../../docs/network-roots.md")),
            ("docs/boot-chain.md", include_str!("../../../../docs/boot-chain.md")),
        ];
        for mode in RootMode::on_network() {
            assert!(base.contains(&format!("\nroot-{mode} = [")), "`recipes/base.toml` has no set `root-{mode}`");
            for (name, text) in documents {
                assert!(text.contains(&format!("`{mode}`")), "`{name}` does not name `{mode}`");
            }
        }
    }

    #[test]
    fn words_in_a_row() {
        assert_eq!(any_of(["a", "b", "c"]), "a, b or c");
        assert_eq!((any_of(["a"]), any_of::<&str>([])), ("a".into(), String::new()));
    }
}
