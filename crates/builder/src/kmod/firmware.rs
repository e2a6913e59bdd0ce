//! The firmware that modules declare (`MODULE_FIRMWARE`).

use super::KmodError;
use super::select::Selection;
use crate::entry::{Entry, Kind};
use crate::recipe::{Firmware, Kernel, SegmentName};
use crate::tree::{Draft, Reason, Supply, TreeEntry};
use bootwright_contract::modalias::fnmatch;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::collections::BTreeSet;

const FOLDER: &str = "usr/lib/firmware";
/// The kernel looks for a file as it is, then compressed (drivers/base/firmware_loader/main.c).
const SUFFIXES: [&str; 3] = ["", ".zst", ".xz"];

/// Puts each declared file into the root; what early modules declare into the boot segment instead.
pub fn add_firmware(
    kernel: &Kernel,
    selection: &Selection,
    supply: &Supply<'_>,
    draft: &mut Draft,
) -> Result<(), KmodError> {
    if kernel.firmware == Firmware::None {
        return Ok(());
    }
    let skip = compile_skip(kernel)?;
    let mut missing = Vec::new();
    let segments = [(SegmentName::Boot, &selection.boot), (SegmentName::Root, &selection.root)];
    for (segment, modules) in segments {
        for module in modules.keys() {
            for file in selection.infos[module].firmware.iter().filter(|file| !skip.is_match(file)) {
                let pair = (module.clone(), file.clone());
                if !add_file(segment, module, file, supply, draft)? && !missing.contains(&pair) {
                    missing.push(pair);
                }
            }
        }
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(KmodError::NoFirmware { missing, origin: kernel.origin.clone() }),
    }
}

fn compile_skip(kernel: &Kernel) -> Result<GlobSet, KmodError> {
    let mut set = GlobSetBuilder::new();
    let bad =
        |pattern: &str, cause| KmodError::BadSkip { pattern: pattern.into(), origin: kernel.origin.clone(), cause };
    for pattern in &kernel.firmware_skip {
        set.add(GlobBuilder::new(pattern).literal_separator(true).build().map_err(|cause| bad(pattern, cause))?);
    }
    set.build().map_err(|cause| bad(&kernel.firmware_skip.join(", "), cause))
}

/// False when no component has it. A declaration may be a pattern: then every file that it names is taken.
fn add_file(
    segment: SegmentName,
    module: &str,
    file: &str,
    supply: &Supply<'_>,
    draft: &mut Draft,
) -> Result<bool, KmodError> {
    let mut found = false;
    for path in candidates(file, supply) {
        let reason = Reason::Firmware { by: module.into() };
        let added = match segment {
            SegmentName::Boot => add_early(&path, &reason, supply, draft)?,
            _ => draft.draw(supply, &path, "", &reason)?.is_some(),
        };
        found |= added;
        if added && !file.contains('*') {
            break;
        }
    }
    Ok(found)
}

fn candidates(file: &str, supply: &Supply<'_>) -> BTreeSet<String> {
    let wanted: Vec<String> = SUFFIXES.iter().map(|suffix| format!("{FOLDER}/{file}{suffix}")).collect();
    if !file.contains('*') {
        return wanted.into_iter().collect();
    }
    let all = supply.parts.iter().flat_map(|part| part.offers.keys()).filter(|path| path.starts_with(FOLDER));
    all.filter(|path| wanted.iter().any(|pattern| fnmatch(pattern, path))).cloned().collect()
}

/// In the boot segment links are not kept: the file stands under the name that the module asks for.
fn add_early(path: &str, reason: &Reason, supply: &Supply<'_>, draft: &mut Draft) -> Result<bool, KmodError> {
    let found = supply.resolve(path, "").end.and_then(|end| supply.at(&end, ""));
    let Some((found, Kind::File(body))) = found.map(|found| (found, &found.offered.entry.kind)) else {
        return Ok(false);
    };
    let path = path.trim_start_matches("usr/").to_string();
    draft.add(TreeEntry {
        entry: Entry::of_root(path, Kind::File(body.clone()), 0o644),
        component: found.component.name.clone(),
        origin: found.component.origin.clone(),
        reason: reason.clone(),
        segment: SegmentName::Boot,
    })?;
    Ok(true)
}
