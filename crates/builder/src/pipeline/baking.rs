//! Blobs -> baked images: what of the recipe's `[[image]]` goes into their file.

use super::renew::{Renewed, pins_of};
use crate::assembly::TreeBuild;
use crate::baked::{Baked, bake, find_runtime};
use crate::error::Failure;
use crate::recipe::CheckedRecipe;
use crate::source::{BakedImage, Pool};

/// Container images, laid out for the containerd of the image.
pub struct Baking {
    pub baked: Baked,
    /// containerd's root.
    pub store: String,
}

/// Lays the images of the pools out. `None` when there are none.
///
/// # Errors
/// A [`Failure`] when the image's containerd would not find them, or would not unpack one of them.
pub fn bake_images(
    recipe: &CheckedRecipe,
    build: &TreeBuild,
    pools: &[(String, Pool)],
    renewed: &Renewed,
) -> Result<Option<Baking>, Failure> {
    let images: Vec<&BakedImage> = pools.iter().filter_map(|(_, pool)| pool.image.as_ref()).collect();
    if images.is_empty() {
        return Ok(None);
    }
    let names: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
    let runtime = find_runtime(recipe, &build.tree, |component| pins_of(&renewed.lock, component), &names)?;
    let mut baked = bake(&images, &runtime.snapshotter)?;
    for record in &mut baked.images {
        let written = recipe.components.iter().find(|component| component.name == record.name);
        record.origin = written.map(|component| component.origin.to_string()).unwrap_or_default();
    }
    Ok(Some(Baking { baked, store: runtime.root }))
}
