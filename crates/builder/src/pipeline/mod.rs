//! Recipe -> CheckedRecipe -> Lock -> Blobs -> Tree -> Segments -> Packed -> BudgetReport -> out/<recipe>/

mod baking;
pub mod boot_config;
mod fetching;
pub mod fresh;
mod keys;
mod limits;
mod packing;
mod plan;
pub mod renew;
mod secrets;
mod sources;
mod sysctl_d;
mod vendor;

use crate::assembly::{Inputs, TreeBuild, build_tree};
use crate::budget::BudgetReport;
use crate::cache::{Cache, CacheError};
use crate::emit::{self, SbomFormats, SourceRecord};
use crate::entry::Body;
use crate::error::Failure;
use crate::fetch::{Context, Settings};
use crate::kmod::Unserved;
use crate::loader_limits::Lint;
use crate::lock::{LockDiff, load_lock};
use crate::module_signing::{ModuleSigner, SignError};
use crate::pid1;
use crate::recipe::{Allowance, CheckedRecipe, RootMode, load_recipe, render_template};
use crate::report::{REPORT, renew_report, write_report};
use crate::source::{PackageFacts, Pool};
use crate::ui::Ui;
use keys::Keys;
pub use plan::{Planned, plan};
use plan::{Prepared, prepare};
use renew::{Renewed, pins_of};
pub use sources::{Collected, sources};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
pub use vendor::{Vendored, vendor};

/// What every run of the pipeline is told.
pub struct Options {
    /// Name or path of the recipe.
    pub recipe: String,
    pub sets: Vec<(String, String)>,
    /// Another mode of the root than the recipe's own.
    pub root: Option<RootMode>,
    pub cache: Cache,
    pub settings: Settings,
    /// Signs kernel modules.
    pub signer: Option<ModuleSigner>,
    pub ui: Ui,
}

impl Options {
    fn context<'a>(&'a self, recipe: &'a CheckedRecipe) -> Context<'a> {
        let recipe_dir = recipe.path.parent().expect("a recipe file lies in a folder");
        Context { cache: &self.cache, ui: &self.ui, settings: &self.settings, recipe_dir }
    }

    fn load_recipe(&self) -> Result<CheckedRecipe, Failure> {
        Ok(load_recipe(&self.recipe, &self.sets, self.root)?)
    }
}

/// What `build` is asked beside [`Options`].
pub struct BuildRequest {
    /// Folder of images.
    pub out: PathBuf,
    /// Fail instead of renewing the lock.
    pub locked: bool,
    /// Bills of materials that are written.
    pub sbom: SbomFormats,
    /// Another PID1 than the embedded one.
    pub pid1: Option<PathBuf>,
    /// File with the private key that signs the root image.
    pub sign: Option<PathBuf>,
    /// Serial of the signed root; default: the time of the lock, seconds since 1970.
    pub serial: Option<u64>,
}

/// What a build did.
pub struct BuildOutcome {
    pub recipe: String,
    pub root: RootMode,
    /// `<out>/<recipe>`, or `<out>/<recipe>-<root>` for a network root.
    pub dir: PathBuf,
    pub image_id: String,
    /// Nothing had changed: the image was left as it was.
    pub unchanged: bool,
    /// Set when the lock was renewed.
    pub renewed: Option<LockDiff>,
    /// Segments taken from the cache, by name.
    pub reused: Vec<String>,
    pub budget: BudgetReport,
    /// Modaliases of the recipe's machines that nothing serves.
    pub unserved: Vec<Unserved>,
    /// Secrets that the recipe allows in it.
    pub secrets: Vec<Allowance>,
    /// What some loader cannot take of it.
    pub lints: Vec<Lint>,
}

/// Times that a build begins anew because something in the cache was damaged.
const FRESH_STARTS: usize = 3;

/// Builds an image, or finds that it is there already. What is damaged in the cache is made or fetched anew, with a line.
pub fn build(options: &Options, request: &BuildRequest) -> Result<BuildOutcome, Failure> {
    for _ in 0..FRESH_STARTS {
        let failure = match build_once(options, request) {
            Ok(outcome) => return Ok(outcome),
            Err(failure) => failure,
        };
        let damaged = match options.cache.discard_damaged() {
            Ok(damaged) => damaged,
            // The failure itself names the damage, and what to do by hand.
            Err(e) if e.is_read_only() => return Err(failure),
            Err(e) => return Err(e.into()),
        };
        if damaged.is_empty() {
            return Err(failure);
        }
        for path in damaged {
            options.ui.say(format_args!("`{}` in the cache was damaged: it is made anew", path.display()));
        }
    }
    build_once(options, request)
}

fn build_once(options: &Options, request: &BuildRequest) -> Result<BuildOutcome, Failure> {
    let recipe = options.load_recipe()?;
    let pid1 = pid1::load_pid1(request.pid1.as_deref(), pid1::wants_network_roots(&recipe))?;
    let dir = request.out.join(recipe.image_name());
    let outcome = |found: fresh::EarlierBuild| BuildOutcome {
        recipe: recipe.name.clone(),
        root: recipe.root.mode,
        dir: dir.clone(),
        image_id: found.image_id,
        unchanged: true,
        renewed: None,
        reused: Vec::new(),
        budget: found.budget,
        unserved: found.unserved,
        secrets: found.secrets,
        lints: found.lints,
    };
    if options.signer.is_some() && !recipe.kernel.strip {
        return Err(SignError::NothingToSign.into());
    }
    let keys = Keys::load(&recipe, request, options.signer.as_ref())?;
    let inputs = keys.with(&fresh::inputs(&recipe, &pid1.body, request.sbom)?);
    if let Some(lock) = load_lock(&recipe.lock_path)?
        && let Some(found) = fresh::unchanged(&dir, &fresh::with_lock(&inputs, &lock))
    {
        if !dir.join(REPORT).is_file() {
            renew_report(&dir)?;
        }
        return Ok(outcome(found));
    }
    let Prepared { renewed, pools, sources, build } = prepare(&recipe, &pid1, options, request.locked)?;
    say_left_out(&build, options);
    let baking = baking::bake_images(&recipe, &build, &pools, &renewed)?;
    let baked = baking.as_ref().map(|baking| &baking.baked);
    let secrets = secrets::check_files(&recipe, &build.tree, baked, options.settings.jobs)?;
    let serial = keys.serial(renewed.lock.time);
    let packing =
        packing::pack_all(&recipe, &build, baking.as_ref(), renewed.lock.time, keys.trust(&recipe, serial), options)?;
    close_segments(&packing, &secrets)?;
    let lints = limits::check(&recipe, &build.kernel.vmlinuz, &packing.segments)?;
    let image = emit::Image {
        recipe: &recipe,
        build: &build,
        segments: &packing.segments,
        root: packing.root.as_ref(),
        baked: baked.map(|baked| baked.images.as_slice()).unwrap_or_default(),
        images: packing.images.as_ref(),
        image_id: &packing.image_id,
        pid1_debug: pid1.debug,
        sources: &sources,
        secrets: &secrets,
        time: renewed.lock.time,
        sbom: request.sbom,
        signing: keys.signing.as_ref().map(|key| (key, serial)),
    };
    let emitted = emit::emit_image(&image, &request.out, &options.ui)?;
    let budget = emitted.budget.clone();
    let unserved = build.kernel.unserved.clone();
    let made = fresh::EarlierBuild { image_id: packing.image_id.clone(), budget, unserved, secrets, lints };
    if emitted.budget.violations().is_empty() {
        write_report(&dir, &emitted.manifest, emitted.earlier.as_ref(), &emitted.budget)?;
        fresh::remember(&dir, &fresh::with_lock(&inputs, &renewed.lock), &made)?;
    }
    let reused = packing.packed().filter(|s| s.reused).map(|s| s.name.as_str().to_string()).collect();
    Ok(BuildOutcome { unchanged: false, renewed: renewed.diff, reused, ..outcome(made) })
}

/// Pins every source anew and saves the lock.
pub fn lock(options: &Options) -> Result<(CheckedRecipe, Renewed), Failure> {
    let recipe = options.load_recipe()?;
    let renewed = renew::renew_all(&recipe, options)?;
    Ok((recipe, renewed))
}

/// Segments that hold secrets are for nobody else in the cache either.
fn close_segments(packing: &packing::Packing, secrets: &[Allowance]) -> Result<(), Failure> {
    for segment in packing.packed().filter(|segment| secrets.iter().any(|allowed| allowed.segment == segment.name)) {
        let dir = segment.path.parent().expect("it lies in a folder of the cache");
        std::fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(CacheError::io("close", dir))?;
    }
    Ok(())
}

fn tree_of(
    recipe: &CheckedRecipe,
    pools: &[(String, Pool)],
    [pid1, sbom]: [&Body; 2],
    options: &Options,
) -> Result<TreeBuild, Failure> {
    let inputs = Inputs {
        recipe,
        pools,
        init: pid1.clone(),
        sbom: sbom.clone(),
        render: &|path, text| Ok(render_template(&path.to_string_lossy(), text, &recipe.vars)?),
        signer: options.signer.as_ref(),
        cache: &options.cache,
        jobs: options.settings.jobs,
    };
    Ok(build_tree(&inputs)?)
}

/// Nothing that an archive holds is left out without a word.
fn say_left_out(build: &TreeBuild, options: &Options) {
    for (component, paths) in &build.left_out {
        let (shown, rest) = paths.split_at(paths.len().min(3));
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        let shown = shown.join(", ");
        options.ui.say(format_args!("component `{component}`: device nodes and fifos are left out: {shown}{more}"));
    }
}

/// What each component was made from, for manifest and SBOM: PID1, then in the order of the pools.
fn source_records(
    recipe: &CheckedRecipe,
    pools: &[(String, Pool)],
    renewed: &Renewed,
    crates: Vec<PackageFacts>,
) -> Vec<SourceRecord> {
    let component = |name: &str| recipe.components.iter().find(|c| c.name == name);
    let init = SourceRecord {
        component: "init".into(),
        kind: "rust".into(),
        pins: Vec::new(),
        packages: crates,
        patches: Vec::new(),
    };
    let of_pools =
        pools.iter().filter_map(|(name, pool)| Some((component(name)?, pool))).map(|(component, pool)| SourceRecord {
            component: component.name.clone(),
            kind: component.source.kind().into(),
            pins: pins_of(&renewed.lock, component).to_vec(),
            packages: pool.packages.clone(),
            patches: pool.patches.clone(),
        });
    std::iter::once(init).chain(of_pools).collect()
}
