//! Bills of materials, judged by the validators of those who keep the formats: `spdx-tools` and `cyclonedx-python-lib`.

use serde_json::Value;
use std::path::Path;
use std::process::Command;
use testkit::need::can;
use testkit::programs::sbom_judge;
use testkit::shipped::Shipped;

/// Prints what is wrong with a document, by the schema of CycloneDX 1.6 and nothing beside it.
const CYCLONEDX: &str = "import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
sys.exit(str(fault) if fault else 0)";

#[test]
fn the_workers_bills_are_valid() {
    check_recipe("worker");
}

#[test]
fn the_rescue_images_bills_are_valid() {
    check_recipe("rescue");
}

fn check_recipe(recipe: &str) {
    if !can(
        Path::new(&sbom_judge("python")).exists(),
        "the judges of bills of materials that scripts/setup.sh installs",
    ) {
        return;
    }
    let project = Shipped::copy_below(&testkit::folders::work_folder());
    let image = project.build(recipe, None, &["--sbom", "cyclonedx"]);
    let file = |name: &str| image.join(name).into_os_string().into_string().expect("a path in UTF-8");
    succeeds(&sbom_judge("pyspdxtools"), &["--version", "SPDX-2.3", "--infile", &file("sbom.spdx.json")]);
    succeeds(&sbom_judge("python"), &["-c", CYCLONEDX, &file("sbom.cdx.json")]);
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(image.join(name)).expect("it is there")).expect("it is JSON")
    };
    let (spdx, cyclonedx) = (read("sbom.spdx.json"), read("sbom.cdx.json"));
    check_licences(&spdx);
    check_patches(&spdx, &cyclonedx);
}

fn succeeds(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().expect("it runs");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{program} {args:?}: {said}");
}

fn list<'a>(of: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    of[key].as_array().into_iter().flatten()
}

/// All that is built from packages, crates and modules tells its licence; only what is put together of many has none.
fn check_licences(spdx: &Value) {
    let untold = list(spdx, "packages")
        .filter(|package| package["licenseDeclared"] == "NOASSERTION")
        .filter(|package| {
            package["comment"].as_str().is_some_and(|comment| {
                ["source deb", "source go", "source rust"].iter().any(|kind| comment.ends_with(kind))
            })
        })
        // Programs of our own, in folders of the project.
        .filter(|package| package["versionInfo"].is_string());
    let untold: Vec<&str> = untold.filter_map(|package| package["name"].as_str()).collect();
    assert!(untold.is_empty(), "no licence of {untold:?}");
}

/// Each patch stands in both, in CycloneDX with all that it changes.
fn check_patches(spdx: &Value, cyclonedx: &Value) {
    let applied =
        list(spdx, "relationships").filter(|relationship| relationship["relationshipType"] == "PATCH_APPLIED");
    let with_diff = list(cyclonedx, "components")
        .flat_map(|component| list(&component["pedigree"], "patches"))
        .filter(|patch| patch["diff"]["text"]["content"].as_str().is_some_and(|diff| diff.contains("\n@@ ")));
    assert_eq!(applied.count(), with_diff.count());
}
