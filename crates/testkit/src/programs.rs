//! Programs that scripts/setup.sh fetches for the tests, as no package has them.

use std::path::{Path, PathBuf};

/// Where it is, if it is there.
pub fn test_program(name: &str) -> String {
    let home = || Path::new(&std::env::var_os("HOME").expect("cargo has it too")).join(".local/share");
    let data = std::env::var_os("XDG_DATA_HOME").map_or_else(home, PathBuf::from);
    let path = data.join("bootwright/test-programs").join(name);
    path.into_os_string().into_string().expect("the path of a home folder is UTF-8")
}
