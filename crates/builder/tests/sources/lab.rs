//! A cache, settings and a server of a test's own.

use bootwright::cache::Cache;
use bootwright::fetch::{Context, Settings};
use bootwright::ui::{Ui, Verbosity};
use testkit::http::PageServer;

pub struct Lab {
    pub dir: tempfile::TempDir,
    pub cache: Cache,
    pub ui: Ui,
    pub settings: Settings,
    pub server: PageServer,
}

impl Lab {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("cache")).unwrap();
        let ui = Ui { verbosity: Verbosity::Quiet, bars: false };
        Self { dir, cache, ui, settings: Settings { jobs: 1, ..Settings::default() }, server: PageServer::start() }
    }

    pub fn context(&self) -> Context<'_> {
        Context { cache: &self.cache, ui: &self.ui, settings: &self.settings, recipe_dir: self.dir.path() }
    }
}
