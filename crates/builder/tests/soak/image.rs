//! Images of `rescue`, each in a folder of its own, with the user's cache.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use testkit::console;
use testkit::ssh::key;

#[derive(Clone)]
pub struct Image {
    /// `--recipe`, `--root`, `--set` and `--out` for it.
    pub arguments: Vec<String>,
    /// Kernel, initrd and the rest.
    pub dir: PathBuf,
}

impl Image {
    /// Builds `rescue` and what makes file systems, with more lines of a recipe.
    pub fn build(root: &str, text: &str) -> Self {
        let folder = testkit::folders::work_folder().join("soak");
        std::fs::create_dir_all(&folder).expect("cargo's folder for tests is writable");
        let recipe = folder.join(format!("{root}.toml"));
        let base = |name: &str| testkit::folders::project_root().join("recipes").join(name);
        let bases = [base("rescue.toml"), base("ext4.toml")];
        let text = format!("extends = {bases:?}\n{text}[budget]\nboot_files_mb = 40\nram_mib = 256\n");
        std::fs::write(&recipe, text).expect("cargo's folder for tests is writable");
        let words = [
            "--recipe",
            &recipe.display().to_string(),
            "--root",
            root,
            "--out",
            &folder.display().to_string(),
            "--set",
        ];
        let mut arguments: Vec<String> = words.map(String::from).into();
        arguments.push(format!("ssh_key={}", key().public));
        let mut tool = Command::new(testkit::tool::tool_path());
        tool.current_dir(testkit::folders::project_root())
            .args(["build", "--quiet"])
            .args(&arguments)
            .stdout(Stdio::null());
        assert!(tool.status().expect("the tool was built").success());
        Self { arguments, dir: folder.join(format!("{root}-{root}")) }
    }

    /// What the machine has said so far.
    pub fn console(&self) -> String {
        console::read(&self.dir.join("smoke/console.log"))
    }
}
