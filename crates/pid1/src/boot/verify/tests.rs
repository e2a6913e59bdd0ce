use super::served::*;
use super::*;
use crate::base::contents::*;
use bootwright_contract::sums::format_sums;

/// A segment `root` with one file of 5 bytes, its sums file, and what boot.json says about it.
fn segment(name: &str) -> (std::path::PathBuf, SegmentSums, Sum) {
    let root = std::env::temp_dir().join(format!("bootwright-verify-{}-{name}", std::process::id()));
    fs::create_dir_all(root.join("bootwright/sums")).unwrap();
    fs::write(root.join("file"), "hello").unwrap();
    let sum = Sum {
        sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824".into(),
        size: 5,
        path: "/file".into(),
    };
    let text = format_sums(std::slice::from_ref(&sum));
    fs::write(root.join("bootwright/sums/root"), &text).unwrap();
    let sums = SegmentSums { name: "root".into(), sums_sha256: hex::encode(&Sha256::digest(text)), xxh64: None };
    (root, sums, sum)
}

fn check(root: &Path, sums: &SegmentSums) -> Result<(), String> {
    let all = load_sums(root, sums).map_err(|e| e.to_string())?;
    all.iter().try_for_each(|sum| check_size(root, &sums.name, sum)).map_err(|e| e.to_string())?;
    let top = File::open(root).unwrap();
    let open = |sum: &Sum| open_below(&top, sum, OFlag::empty()).map_err(not_read(&sum.path));
    check_files(&all, sums.xxh64.as_deref(), &open).map_err(|e| e.to_string())
}

#[test]
fn good_truncated_damaged_and_missing() {
    let (root, sums, _) = segment("all");
    assert_eq!(check(&root, &sums), Ok(()));
    for (content, expected) in [("hell", "`/file` is truncated: found 4 of 5 bytes"), ("hellO", "`/file` is damaged")] {
        fs::write(root.join("file"), content).unwrap();
        let error = check(&root, &sums).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    fs::remove_file(root.join("file")).unwrap();
    assert!(check(&root, &sums).unwrap_err().starts_with("`/file` is missing from segment `root`"));
    fs::write(root.join("bootwright/sums/root"), "").unwrap();
    assert!(check(&root, &sums).unwrap_err().starts_with("segment `root` does not belong to this image"));
    fs::remove_file(root.join("bootwright/sums/root")).unwrap();
    assert!(check(&root, &sums).unwrap_err().starts_with("segment `root` is missing or truncated"));
    fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_nodes_segment_is_checked_by_what_the_command_line_says() {
    let (root, sums, _) = segment("node");
    fs::rename(root.join("bootwright/sums/root"), root.join("bootwright/sums/node")).unwrap();
    let named = |sha256: &str| node_segment(Some(sha256)).unwrap();
    assert_eq!(check(&root, &named(&sums.sums_sha256)), Ok(()));
    let error = check(&root, &named("00")).unwrap_err();
    assert!(error.starts_with("segment `node` does not belong to this image"), "{error}");
    fs::remove_file(root.join("bootwright/sums/node")).unwrap();
    let error = check(&root, &named(&sums.sums_sha256)).unwrap_err();
    assert!(error.starts_with("segment `node` is missing or truncated"), "{error}");
    assert_eq!(node_segment(None), None);
    fs::remove_dir_all(root).unwrap();
}

#[test]
fn an_export_is_of_this_build_and_whole() {
    let (root, sums, _) = segment("export");
    let check = |expected: &str| {
        let sums = load_export(&root, "nfs://h/x", expected).map_err(|e| e.to_string())?;
        check_export_sizes(&root, "nfs://h/x", &sums).map_err(|e| e.to_string())?;
        let top = File::open(&root).unwrap();
        let open = |sum: &Sum| open_below(&top, sum, OFlag::empty()).map_err(not_read(&sum.path));
        // What `xxhsum -H64` prints for `hello`, and none.
        let [by_xxh64, by_sha256] =
            [Some("26c7827d889f6da3"), None].map(|xxh64| check_files(&sums, xxh64, &open).map_err(|e| e.to_string()));
        assert_eq!(by_xxh64, by_sha256);
        by_sha256
    };
    let sha256 = &sums.sums_sha256;
    assert_eq!(check(sha256), Ok(()));
    let error = check("00").unwrap_err();
    assert!(error.starts_with("the export `nfs://h/x` is of another build"), "{error}");
    fs::write(root.join("file"), "hell").unwrap();
    let error = check(sha256).unwrap_err();
    assert!(error.starts_with("`/file` in the export `nfs://h/x` is truncated: found 4 of 5 bytes"), "{error}");
    fs::write(root.join("file"), "hellO").unwrap();
    let error = check(sha256).unwrap_err();
    assert!(error.starts_with("`/file` is damaged: its hash is "), "{error}");
    fs::remove_file(root.join("file")).unwrap();
    let error = check(sha256).unwrap_err();
    assert!(error.starts_with("`/file` is not in the export `nfs://h/x`"), "{error}");
    fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_root_image_is_compared_by_its_xxh64_or_its_sha256() {
    let (root, _, sum) = segment("xxh64");
    let check = |xxh64| {
        let file = File::open(root.join("file")).unwrap();
        check_image(&file, &sum, xxh64).map_err(|e| e.to_string())
    };
    // What `xxhsum -H64` prints for `hello`.
    let xxh64 = Some("26c7827d889f6da3");
    fs::write(root.join("file"), "hello, and what a disk has behind it").unwrap();
    assert_eq!((check(xxh64), check(None)), (Ok(()), Ok(())));
    fs::write(root.join("file"), "hellO").unwrap();
    for error in [check(xxh64).unwrap_err(), check(None).unwrap_err()] {
        assert!(error.starts_with("`/file` is damaged: its hash is "), "{error}");
    }
    fs::write(root.join("file"), "hell").unwrap();
    let error = check(xxh64).unwrap_err();
    assert!(error.starts_with("`/file` is truncated: found 4 of 5 bytes"), "{error}");
    fs::remove_dir_all(root).unwrap();
}

#[test]
fn modules_are_left_to_those_who_load_them() {
    let (root, _, sum) = segment("modules");
    fs::create_dir_all(root.join("lib/modules/6.1/kernel")).unwrap();
    fs::write(root.join("lib/modules/6.1/kernel/a.ko"), "hellO").unwrap();
    let module = Sum { path: "/lib/modules/6.1/kernel/a.ko".into(), ..sum.clone() };
    let top = File::open(&root).unwrap();
    let open = |sum: &Sum| open_below(&top, sum, OFlag::empty()).map_err(not_read(&sum.path));
    let sums = [sum, module];
    // What `xxhsum -H64` prints for `hello`: that of the other file alone.
    assert!(check_files(&sums, Some("26c7827d889f6da3"), &open).is_ok());
    let error = check_files(&sums, None, &open).unwrap_err().to_string();
    assert!(error.starts_with("`/lib/modules/6.1/kernel/a.ko` is damaged"), "{error}");
    fs::remove_dir_all(root).unwrap();
}
