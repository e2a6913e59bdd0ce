//! Kernel modules by name or modalias, with what they need: dependencies, softdeps, firmware; and the lists that
//! depmod(8) would make for them, and one of hashes.

mod add;
mod cost;
mod error;
mod firmware;
mod index;
mod kernel;
mod known;
mod modinfo;
mod select;
mod strip;
mod symbols;
mod tables;
#[cfg(test)]
mod tests;

pub use add::KernelBuild;
pub(crate) use add::add_kernel;
pub use cost::ModuleCost;
pub(crate) use cost::{load_config, module_cost};
pub use error::KmodError;
pub use modinfo::{ModInfo, parse_modinfo};
pub use select::Unserved;
pub use strip::strip_module;
pub use tables::{
    ListedModule, ListedModules, Table, format_softdep, index_builtin_alias, list_alias, list_builtin, list_dep,
};
