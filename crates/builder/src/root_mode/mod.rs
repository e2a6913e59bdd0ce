//! The modes of the root: what an image and its place on a server are called in each, and what its server has to be told. One
//! file a kind of server.

mod iscsi;
mod nbd;
mod nfs;

use bootwright_contract as contract;

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
    pub const ALL: [Self; 5] = [Self::Ram, Self::Http, Self::Nfs, Self::Iscsi, Self::Nbd];

    /// `ram`, `http`, `nfs`, `iscsi`, `nbd`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ram => "ram",
            Self::Http => "http",
            Self::Nfs => "nfs",
            Self::Iscsi => "iscsi",
            Self::Nbd => "nbd",
        }
    }

    /// The root is no part of the initrd.
    pub fn is_network(self) -> bool {
        self != Self::Ram
    }

    /// The mode that a source's URL belongs to; `None` for a scheme that none has.
    pub fn of_source(url: &str) -> Option<Self> {
        let (scheme, _) = url.split_once("://")?;
        match scheme {
            "http" | "https" => Some(Self::Http),
            "nfs" => Some(Self::Nfs),
            "iscsi" => Some(Self::Iscsi),
            "nbd" => Some(Self::Nbd),
            _ => None,
        }
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

/// The configurations of servers for a recipe's root; for a RAM root none.
pub fn server_files(recipe: &str, mode: RootMode) -> Vec<ServerFile> {
    match mode {
        RootMode::Ram | RootMode::Http => Vec::new(),
        RootMode::Nfs => nfs::files(&place(recipe, RootMode::Nfs, "root")),
        RootMode::Iscsi => iscsi::files(&iscsi_target(recipe), &place(recipe, RootMode::Iscsi, "root.img")),
        RootMode::Nbd => nbd::files(recipe, &place(recipe, RootMode::Nbd, "root.img")),
    }
}

/// Where the server has a file of the image.
fn place(recipe: &str, mode: RootMode, file: &str) -> String {
    format!("{PLACE}/{}/{file}", image_name(recipe, mode))
}
