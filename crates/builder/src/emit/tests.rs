use super::manifest::{FileKind, load_manifest};
use super::*;
use crate::entry::{Body, Entry, Kind};
use crate::error::Exit;
use crate::error::Failure;
use crate::kmod::KernelBuild;
use crate::measure::load_measurements;
use crate::recipe::*;
use crate::segment::ComponentShare;
use crate::source::PatchFacts;
use crate::tree::{Reason, Tree, TreeEntry};
use bootwright_contract as contract;
use std::path::PathBuf;
use std::process::Command;

/// A small image, and a folder to write it to.
struct Lab {
    dir: tempfile::TempDir,
    recipe: CheckedRecipe,
    build: TreeBuild,
    segments: Vec<PackedSegment>,
    sources: Vec<SourceRecord>,
    sbom: SbomFormats,
}

const DIFF: &str = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-large\n+small\n";

fn origin() -> Origin {
    Origin { file: "recipes/tiny.toml".into(), line: 7 }
}

fn recipe() -> CheckedRecipe {
    let none = Compression::None;
    CheckedRecipe {
        name: "tiny".into(),
        summary: "a test".into(),
        path: "/r/tiny.toml".into(),
        lock_path: "/r/tiny.lock".into(),
        files_read: Vec::new(),
        lineage: Lineage::default(),
        inherited_locks: Vec::new(),
        vars: Default::default(),
        kernel: Kernel {
            origin: origin(),
            component: "kernel".into(),
            early: Vec::new(),
            netroot: None,
            modaliases: Vec::new(),
            strip: false,
            strip_root: false,
            modules: Vec::new(),
            load: Vec::new(),
            sets: Default::default(),
            cmdline: vec!["console=ttyS0 panic=30".into()],
            firmware: Firmware::None,
            firmware_skip: Vec::new(),
        },
        components: Vec::new(),
        overlays: Vec::new(),
        files: Vec::new(),
        root: Root {
            mode: RootMode::Ram,
            sources: Vec::new(),
            choices: Vec::new(),
            names_sources: false,
            image: contract::RootImage::Squashfs,
            block_kib: 16,
            compressor: "zstd".into(),
            level: None,
            overlay_size: "32M".into(),
            read_ahead_kb: None,
            tmpfs: Vec::new(),
            lost_reboot_s: None,
            corrupted_reboot_s: None,
            trust: None,
            refuse_downgrade: false,
        },
        pack: Pack { boot: none, stable: none, volatile: none },
        services: Vec::new(),
        network: contract::Network {
            mode: contract::NetworkMode::None,
            ipv6: contract::Ipv6Mode::Off,
            ..contract::Network::dhcp(1)
        },
        time: contract::Time::default(),
        hostname: contract::Hostname { dhcp: false, fallback: None },
        sysctls: Default::default(),
        policies: Default::default(),
        report: None,
        zram: None,
        state: Vec::new(),
        watchdog: None,
        memory: None,
        shutdown_timeout_s: 30,
        budget: Budget { boot_files_mb: Some(1.0), ..Budget::default() },
        smoke: Smoke { ram_mib: 512, smp: 1, deadline_s: 60, expect: Vec::new(), cmdline: Vec::new() },
        secrets: Vec::new(),
    }
}

fn segment(dir: &Path, name: SegmentName, bytes: &[u8]) -> PackedSegment {
    let path = dir.join(name.as_str());
    std::fs::write(&path, bytes).unwrap();
    let share = ComponentShare { files: 1, raw: 9, packed: bytes.len() as u64 };
    PackedSegment {
        name,
        path,
        size: bytes.len() as u64,
        sha256: Sha256::of(bytes),
        sums_sha256: Sha256::of(b"sums"),
        tool: (name == SegmentName::Root).then(|| "mksquashfs 4.5.1".into()),
        unpacked: bytes.len() as u64,
        resident: 4096,
        files: 1,
        image_size: (name == SegmentName::Root).then_some(8),
        verity: None,
        components: [("busybox".to_string(), share)].into(),
        file_shares: Default::default(),
        reused: false,
    }
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let entry = Entry::of_root("usr/bin/busybox", Kind::File(Body::from_bytes(*b"busybox")), 0o755);
        let reason = Reason::Wanted { pattern: "usr/bin/*".into() };
        let found =
            TreeEntry { entry, component: "busybox".into(), origin: origin(), reason, segment: SegmentName::Root };
        let tree =
            Tree { entries: [((SegmentName::Root, "usr/bin/busybox".to_string()), found)].into(), ..Tree::default() };
        let kernel = KernelBuild {
            release: "6.12-amd64".into(),
            vmlinuz: Body::from_bytes(*b"kernel"),
            early: Vec::new(),
            load: Vec::new(),
            unserved: Vec::new(),
        };
        let segments = vec![
            segment(dir.path(), SegmentName::Boot, b"\x28\xb5\x2f\xfdboot"),
            segment(dir.path(), SegmentName::Root, b"070701rootfs"),
            segment(dir.path(), SegmentName::Config, b"\x1f\x8b--conf-"),
        ];
        let pin = Pin {
            name: "busybox-static".into(),
            version: "1.37".into(),
            size: 7,
            sha256: Sha256::of(b"deb"),
            detail: Default::default(),
        };
        let facts = PackageFacts {
            name: "busybox-static".into(),
            version: "1.37".into(),
            license: Some("GPL-2.0-only AND LicenseRef-own-1".into()),
            supplier: Some("Debian".into()),
            purl: Some("pkg:deb/debian/busybox-static@1.37".into()),
            license_texts: [("LicenseRef-own-1".to_string(), "Do as you like.".to_string())].into(),
            notices: ["by its authors".to_string()].into(),
            ..PackageFacts::default()
        };
        let init = SourceRecord {
            component: "init".into(),
            kind: "rust".into(),
            pins: Vec::new(),
            packages: ["0.2.1", "0.2.2"]
                .map(|version| PackageFacts {
                    name: "libc".into(),
                    version: version.into(),
                    sha256: Some(Sha256::of(version.as_bytes())),
                    ..PackageFacts::default()
                })
                .into(),
            patches: Vec::new(),
        };
        let busybox = SourceRecord {
            component: "busybox".into(),
            kind: "deb".into(),
            pins: vec![pin],
            packages: vec![facts],
            patches: vec![PatchFacts {
                name: "1-small.patch".into(),
                sha256: Sha256::of(b"patch"),
                module: "busybox-static".into(),
                description: "smaller".into(),
                forwarded: "not-needed".into(),
                guard: "this test".into(),
                diff: DIFF.into(),
            }],
        };
        Self {
            dir,
            recipe: recipe(),
            build: TreeBuild { tree, kernel, left_out: Default::default() },
            segments,
            sources: vec![init, busybox],
            sbom: SbomFormats::Cyclonedx,
        }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn emit_to(&self, out: &Path) -> Result<BudgetReport, EmitError> {
        let image = Image {
            recipe: &self.recipe,
            build: &self.build,
            segments: &self.segments,
            root: None,
            baked: &[],
            images: None,
            image_id: "0123abcd",
            pid1_debug: Some(b"names and lines"),
            sources: &self.sources,
            secrets: &[],
            time: 1_795_253_431,
            sbom: self.sbom,
            signing: None,
        };
        emit_image(&image, out, &Ui::default()).map(|emitted| emitted.budget)
    }

    fn emit(&self) -> Result<BudgetReport, EmitError> {
        self.emit_to(&self.out())
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.out().join("tiny").join(name)).unwrap()
    }
}

fn listing(dir: &Path) -> Vec<(String, Sha256)> {
    let found = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(Result::unwrap);
    let files = found.filter(|e| e.file_type().is_file());
    let name = |path: &Path| path.strip_prefix(dir).unwrap().display().to_string();
    files.map(|e| (name(e.path()), Sha256::of(&std::fs::read(e.path()).unwrap()))).collect()
}

#[test]
fn the_folder_is_whole_and_its_sums_hold() {
    let lab = Lab::new();
    let report = lab.emit().unwrap();
    assert_eq!(report.boot_files_bytes, 6 + 8 + 12 + 9);
    let dir = lab.out().join("tiny");
    let names: Vec<String> = listing(&dir).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "SHA256SUMS",
        "boot.ipxe",
        "init.debug",
        "initrd.img",
        "manifest.json",
        "measurements.json",
        "sbom.cdx.json",
        "sbom.spdx.json",
        "segments/boot.cpio.zst",
        "segments/config.cpio.gz",
        "segments/root.cpio",
        "vmlinuz",
    ];
    assert_eq!(names, expected);
    assert_eq!(std::fs::read(dir.join("initrd.img")).unwrap(), b"\x28\xb5\x2f\xfdboot070701rootfs\x1f\x8b--conf-");
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(&dir);
    assert!(check.status().expect("coreutils is part of every Debian").success());
    assert_eq!(lab.text("SHA256SUMS").lines().count(), expected.len() - 1);
    assert_eq!(std::fs::read_dir(lab.out()).unwrap().count(), 2, "only the image and the lock stay");
}

#[test]
fn the_manifest_tells_each_file_and_reads_back() {
    let lab = Lab::new();
    lab.emit().unwrap();
    let manifest = load_manifest(&lab.out().join("tiny/manifest.json")).unwrap();
    assert_eq!((manifest.recipe.as_str(), manifest.image_id.as_str()), ("tiny", "0123abcd"));
    let offsets: Vec<(u64, &str)> = manifest.segments.iter().map(|s| (s.offset, s.path.as_str())).collect();
    assert_eq!(offsets, [(0, "segments/boot.cpio.zst"), (8, "segments/root.cpio"), (20, "segments/config.cpio.gz")]);
    let file = &manifest.files[0];
    assert_eq!((file.kind, file.mode.as_str(), file.size), (FileKind::File, "0755", Some(7)));
    assert_eq!((file.component.as_str(), file.origin.as_str()), ("busybox", "recipes/tiny.toml:7"));
    assert_eq!(manifest.tools["mksquashfs"], "4.5.1");
    let other = lab.text("manifest.json").replace("\"schema\": 1", "\"schema\": 99");
    let path = lab.dir.path().join("other.json");
    std::fs::write(&path, other).unwrap();
    assert!(load_manifest(&path).unwrap_err().to_string().contains("it has schema 99"));
}

#[test]
fn the_measurements_are_of_the_files_beside_them() {
    let lab = Lab::new();
    lab.emit().unwrap();
    let found = load_measurements(&lab.out().join("tiny")).unwrap();
    assert_eq!((found.recipe.as_str(), found.image_id.as_str()), ("tiny", "0123abcd"));
    assert_eq!(found.kernel, None, "this kernel is no EFI program");
    assert_eq!(found.initrd.sha256, Sha256::of(&std::fs::read(lab.out().join("tiny/initrd.img")).unwrap()));
    let line = "vmlinuz initrd=initrd.img ${bw-initrd} BOOTIF=01-${netX/mac:hexhyp} console=ttyS0 panic=30 ${bw-root} ${bw-args}";
    assert_eq!(found.command_line.text, line);
    assert!(lab.text("boot.ipxe").contains(&format!("\nkernel {line} || goto failed\n")));
}

#[test]
fn a_kernel_that_ends_within_its_headers_is_refused() {
    let mut lab = Lab::new();
    let mut start = [0; 0x44];
    start[..2].copy_from_slice(b"MZ");
    start[0x3c] = 0x40;
    start[0x40..].copy_from_slice(b"PE\0\0");
    lab.build.kernel.vmlinuz = Body::from_bytes(start);
    let error = lab.emit().unwrap_err();
    assert!(error.to_string().starts_with("the kernel `"), "{error}");
    assert!(!lab.out().join("tiny").exists());
}

#[test]
fn the_same_image_gives_the_same_bytes_anywhere() {
    let lab = Lab::new();
    let other = lab.dir.path().join("elsewhere");
    lab.emit().unwrap();
    lab.emit_to(&other).unwrap();
    lab.emit_to(&other).unwrap();
    assert_eq!(listing(&lab.out().join("tiny")), listing(&other.join("tiny")));
}

#[test]
fn a_rebuild_replaces_all_but_the_smoke_logs_and_tells_what_grew() {
    let mut lab = Lab::new();
    lab.emit().unwrap();
    let dir = lab.out().join("tiny");
    std::fs::create_dir(dir.join("smoke")).unwrap();
    std::fs::write(dir.join("smoke/console.log"), "log").unwrap();
    std::fs::write(dir.join(".build.json"), "old").unwrap();
    lab.segments[1] = segment(lab.dir.path(), SegmentName::Root, b"070701rootfs and more");
    let report = lab.emit().unwrap();
    assert_eq!(lab.text("smoke/console.log"), "log");
    assert!(!dir.join(".build.json").exists());
    let grown: Vec<(&str, u64, u64)> = report.grown.iter().map(|g| (g.what.as_str(), g.before, g.now)).collect();
    assert_eq!(grown, [("component busybox", 29, 38)]);
    assert!(!lab.out().join(".tiny.new").exists());
}

#[test]
fn what_a_killed_build_left_is_made_up_for() {
    let lab = Lab::new();
    lab.emit().unwrap();
    // Killed between the exchange and the move of the logs.
    let left = lab.out().join(".tiny.new");
    std::fs::create_dir_all(left.join("smoke")).unwrap();
    std::fs::write(left.join("smoke/console.log"), "log").unwrap();
    std::fs::write(left.join("vmlinuz"), "half").unwrap();
    lab.emit().unwrap();
    assert_eq!((lab.text("smoke/console.log").as_str(), lab.text("vmlinuz").as_str()), ("log", "kernel"));
    assert!(!left.exists());
    // Killed between two renames, on a file system that cannot exchange folders.
    let old = lab.out().join(".tiny.old");
    std::fs::rename(lab.out().join("tiny"), &old).unwrap();
    lab.emit().unwrap();
    assert_eq!((lab.text("smoke/console.log").as_str(), lab.text("vmlinuz").as_str()), ("log", "kernel"));
    assert!(!old.exists());
}

#[test]
fn a_failure_leaves_the_old_image() {
    let mut lab = Lab::new();
    lab.emit().unwrap();
    let before = listing(&lab.out());
    // Another file under its name: the image may share the old one.
    std::fs::remove_file(&lab.segments[1].path).unwrap();
    std::fs::write(&lab.segments[1].path, "damaged......").unwrap();
    let error = lab.emit().unwrap_err();
    assert!(matches!(&error, EmitError::Damaged { path, .. } if *path == lab.segments[1].path), "{error}");
    lab.segments[1].path = "/does/not/exist".into();
    assert!(matches!(lab.emit().unwrap_err(), EmitError::Io { action: "open", .. }));
    assert_eq!(listing(&lab.out()), before);
}

#[test]
fn a_folder_that_is_no_image_is_not_replaced() {
    let lab = Lab::new();
    let dir = lab.out().join("tiny");
    std::fs::create_dir_all(dir.join("smoke")).unwrap();
    lab.emit().unwrap();
    std::fs::remove_file(dir.join("manifest.json")).unwrap();
    let error = lab.emit().unwrap_err();
    assert!(matches!(error, EmitError::NotOurs { .. }), "{error}");
    assert_eq!(lab.text("vmlinuz"), "kernel");
    let file = lab.dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(lab.emit_to(&file).unwrap_err().to_string().starts_with("cannot make"));
}

#[test]
fn the_script_says_what_it_boots_and_never_loops_for_ever() {
    let mut lab = Lab::new();
    lab.emit().unwrap();
    let script = lab.text("boot.ipxe");
    let kernel = "kernel vmlinuz initrd=initrd.img ${bw-initrd} BOOTIF=01-${netX/mac:hexhyp} console=ttyS0 panic=30 ${bw-root} ${bw-args} || goto failed";
    for line in ["#!ipxe", "echo bootwright: booting tiny, image 0123abcd", kernel, "initrd initrd.img || goto failed"]
    {
        assert!(script.lines().any(|l| l == line), "{line}\n{script}");
    }
    for label in script.lines().filter_map(|line| line.split("goto ").nth(1)) {
        let label = label.split(' ').next().unwrap();
        assert!(script.lines().any(|line| line == format!(":{label}")), "no label {label}\n{script}");
    }
    lab.recipe.kernel.cmdline = vec!["a ${net0/mac}".into()];
    let error = lab.emit().unwrap_err();
    assert_eq!(error.to_string(), "`${net0/mac}` cannot be on the kernel command line: iPXE takes it for a setting");
    assert_eq!(Failure::from(error).exit, Exit::Usage);
}

#[test]
fn the_sbom_names_every_package_once() {
    let lab = Lab::new();
    lab.emit().unwrap();
    let sbom: serde_json::Value = serde_json::from_str(&lab.text("sbom.spdx.json")).unwrap();
    assert_eq!(sbom["creationInfo"]["created"], "2026-11-21T09:30:31Z");
    assert_eq!(sbom["documentNamespace"], "https://spdx.org/spdxdocs/tiny-0123abcd");
    let packages = sbom["packages"].as_array().unwrap();
    let busybox = packages.iter().find(|p| p["name"] == "busybox-static").unwrap();
    assert_eq!(busybox["licenseDeclared"], "GPL-2.0-only AND LicenseRef-own-1");
    assert_eq!(busybox["attributionTexts"], serde_json::json!(["by its authors"]));
    let texts = serde_json::json!([{ "licenseId": "LicenseRef-own-1", "extractedText": "Do as you like." }]);
    assert_eq!(sbom["hasExtractedLicensingInfos"], texts);
    assert_eq!(busybox["checksums"][0]["checksumValue"], Sha256::of(b"deb").to_string());
    assert_eq!(busybox["externalRefs"][0]["referenceLocator"], "pkg:deb/debian/busybox-static@1.37");
    let libc: Vec<_> = packages.iter().filter(|p| p["name"] == "libc").collect();
    assert_eq!(libc.iter().map(|p| &p["versionInfo"]).collect::<Vec<_>>(), ["0.2.1", "0.2.2"]);
    assert_eq!(libc[0]["checksums"][0]["checksumValue"], Sha256::of(b"0.2.1").to_string());
    let mut ids: Vec<&str> = packages.iter().map(|p| p["SPDXID"].as_str().unwrap()).collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), count), (7, 7));
    let patch = packages.iter().find(|p| p["name"] == "1-small.patch").unwrap();
    assert_eq!(
        (&patch["summary"], &patch["checksums"][0]["checksumValue"]),
        (&"smaller".into(), &Sha256::of(b"patch").to_string().into())
    );
    let applied =
        sbom["relationships"].as_array().unwrap().iter().find(|r| r["relationshipType"] == "PATCH_APPLIED").unwrap();
    assert_eq!((&applied["spdxElementId"], &applied["relatedSpdxElement"]), (&patch["SPDXID"], &busybox["SPDXID"]));
    for relationship in sbom["relationships"].as_array().unwrap() {
        let to = relationship["relatedSpdxElement"].as_str().unwrap();
        assert!(ids.contains(&to), "{relationship}");
    }
}

#[test]
fn words_that_are_no_expression_are_not_declared() {
    let mut lab = Lab::new();
    lab.sources[1].packages[0].license = Some("GPL, see copyright".into());
    lab.emit().unwrap();
    let sbom: serde_json::Value = serde_json::from_str(&lab.text("sbom.spdx.json")).unwrap();
    let busybox = sbom["packages"].as_array().unwrap().iter().find(|p| p["name"] == "busybox-static").unwrap();
    assert_eq!(
        (&busybox["licenseDeclared"], &busybox["licenseComments"]),
        (&"NOASSERTION".into(), &"GPL, see copyright".into())
    );
    let cyclonedx: serde_json::Value = serde_json::from_str(&lab.text("sbom.cdx.json")).unwrap();
    let busybox = cyclonedx["components"].as_array().unwrap().iter().find(|p| p["name"] == "busybox-static").unwrap();
    assert_eq!(busybox["licenses"], serde_json::json!([{ "license": { "name": "GPL, see copyright" } }]));
}

#[test]
fn modules_that_are_not_compiled_in_are_not_in_the_sbom() {
    let mut lab = Lab::new();
    let of_go = |name: &str, version: &str| Pin {
        name: name.into(),
        version: version.into(),
        size: 1,
        sha256: Sha256::of(name.as_bytes()),
        detail: Default::default(),
    };
    lab.sources[1] = SourceRecord {
        component: "program".into(),
        kind: "go".into(),
        pins: vec![of_go("example.com/used", "v1.0.0"), of_go("example.com/unused", "v1.0.0"), of_go("program", "")],
        packages: vec![PackageFacts {
            name: "example.com/used".into(),
            version: "v1.0.0".into(),
            ..Default::default()
        }],
        patches: Vec::new(),
    };
    lab.emit().unwrap();
    let sbom = lab.text("sbom.spdx.json");
    assert!(sbom.contains("\"program\"") && sbom.contains("example.com/used") && !sbom.contains("unused"), "{sbom}");
}

#[test]
fn cyclonedx_holds_the_same_with_the_patches_themselves() {
    let mut lab = Lab::new();
    lab.emit().unwrap();
    let sbom: serde_json::Value = serde_json::from_str(&lab.text("sbom.cdx.json")).unwrap();
    assert_eq!(sbom["serialNumber"], "urn:uuid:0123abcd-0000-8000-8000-000000000000");
    assert_eq!(sbom["metadata"]["timestamp"], "2026-11-21T09:30:31Z");
    let components = sbom["components"].as_array().unwrap();
    let names: Vec<_> = components.iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["vmlinuz", "initrd.img", "libc", "libc", "busybox-static"]);
    let busybox = &components[4];
    assert_eq!(busybox["purl"], "pkg:deb/debian/busybox-static@1.37");
    assert_eq!(busybox["hashes"][0]["content"], Sha256::of(b"deb").to_string());
    assert_eq!(busybox["licenses"][0]["expression"], "GPL-2.0-only AND LicenseRef-own-1");
    assert_eq!(busybox["evidence"]["licenses"][0]["license"]["text"]["content"], "Do as you like.");
    assert_eq!(busybox["evidence"]["copyright"][0]["text"], "by its authors");
    assert_eq!(busybox["pedigree"]["ancestors"][0]["purl"], busybox["purl"]);
    let patch = &busybox["pedigree"]["patches"][0];
    assert_eq!(patch["diff"]["text"]["content"], DIFF);
    let why = patch["resolves"][0]["description"].as_str().unwrap();
    assert!(["smaller", "not-needed", "this test"].iter().all(|word| why.contains(word)), "{why}");
    let depends: Vec<_> = sbom["dependencies"][0]["dependsOn"].as_array().unwrap().iter().collect();
    assert_eq!(depends, components.iter().map(|c| &c["bom-ref"]).collect::<Vec<_>>());

    lab.sbom = SbomFormats::Spdx;
    lab.emit().unwrap();
    assert!(!lab.out().join("tiny/sbom.cdx.json").exists());
}
