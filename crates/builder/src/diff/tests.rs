use super::*;
use crate::segment::ComponentShare;

fn file(path: &str, size: u64, content: &str) -> (String, SideFile) {
    let is_module = path.ends_with(".ko");
    let key = if is_module { path.rsplit('/').next().unwrap_or(path) } else { path };
    let file = SideFile {
        path: path.into(),
        component: Some("tool".into()),
        size,
        packed: Some(size / 2),
        content: content.into(),
        attributes: "0644 0:0".into(),
        is_module,
    };
    (key.into(), file)
}

fn side(files: Vec<(String, SideFile)>) -> Side {
    let kernel = ComponentShare { files: 1, raw: 7, packed: 7 };
    let mut components = BTreeMap::from([("kernel".to_string(), kernel)]);
    for (_, file) in &files {
        let share = components.entry("tool".to_string()).or_default();
        share.packed += file.packed.unwrap_or(0);
        share.raw += file.size;
    }
    Side {
        identity: format!("{files:?}"),
        parts: [("initrd.img".to_string(), 100 + files.len() as u64)].into(),
        files: files.into_iter().collect(),
        has_packed: true,
        names_components: true,
        components,
        ..Side::default()
    }
}

#[test]
fn what_is_the_same_is_left_out_and_the_largest_change_comes_first() {
    let before = side(vec![file("/a", 10, "1"), file("/b", 100, "2"), file("/gone", 40, "3"), file("/m/x.ko", 8, "4")]);
    let mut after = side(vec![file("/a", 10, "1"), file("/b", 20, "5"), file("/new", 6, "6"), file("/n/x.ko", 9, "7")]);
    let (key, mut odd) = file("/odd", 4, "8");
    let same = odd.clone();
    odd.attributes = "0755 0:0".into();
    after.files.insert(key.clone(), odd);
    let mut before = before;
    before.files.insert(key, same);
    let diff = compare(&before, &after);
    let told: Vec<(&str, &str, i128)> =
        diff.files.iter().map(|f| (f.change.name.as_str(), f.what.as_str(), f.change.delta())).collect();
    assert_eq!(
        told,
        [("/b", "content", -40), ("/gone", "removed", -20), ("/new", "added", 3), ("/odd", "attributes", 0)]
    );
    assert_eq!(diff.modules.len(), 1);
    assert_eq!((diff.modules[0].change.name.as_str(), diff.modules[0].what), ("x.ko", FileNews::Content));
    let tool = Change { name: "tool".into(), before: Some(79), after: Some(22) };
    assert_eq!(diff.components, [tool], "the kernel's own file is the same");
}

#[test]
fn a_side_without_packed_sizes_is_compared_unpacked() {
    let before = side(vec![file("/a", 10, "1")]);
    let after = Side { has_packed: false, ..side(vec![file("/a", 12, "2")]) };
    let diff = compare(&before, &after);
    assert_eq!((diff.weight, diff.files[0].change.delta()), (Weight::Unpacked, 2));
}

#[test]
fn a_share_that_moves_by_what_else_is_there_is_no_change_of_the_file() {
    let before = side(vec![file("/a", 10, "1")]);
    let mut after = before.clone();
    after.files.get_mut("/a").unwrap().packed = Some(9);
    assert!(compare(&before, &after).files.is_empty());
}

#[test]
fn as_many_rows_are_shown_as_were_asked_for() {
    let before = side(Vec::new());
    let mut after = side(vec![file("/a", 30, "1"), file("/b", 20, "2"), file("/c", 10, "3")]);
    let package = |name: &str| (("tool".to_string(), name.to_string()), ["1".to_string()].into());
    after.packages = [package("p"), package("q")].into();
    let text = |top| compare(&before, &after).to_text(top);
    assert!(text(1).contains("/a") && text(1).contains("... and 2 more; --top 3 shows them"), "{}", text(1));
    assert!(text(1).contains("... and 1 more; --top 2 shows them") && !text(1).contains("/b"), "{}", text(1));
    assert!(text(3).contains("/c") && !text(3).contains("... and"), "{}", text(3));
}

#[test]
fn baked_container_images_are_components() {
    let empty = crate::emit::manifest::tests::empty;
    let share = ComponentShare { files: 1, raw: 900, packed: 300 };
    let pause = crate::baked::BakedRecord {
        name: "registry.k8s.io/pause:3.10".into(),
        digest: "sha256:0123".into(),
        layers: 1,
        origin: "r.toml:1".into(),
    };
    let image_shares = [("image pause".to_string(), share)].into();
    let with = crate::emit::manifest::Manifest { image_shares, images: vec![pause], ..empty() };
    let diff = compare(&Side::of_image(&empty()), &Side::of_image(&with));
    assert_eq!(diff.components, [Change { name: "image pause".into(), before: None, after: Some(900) }]);
    assert_eq!(diff.packages.len(), 1);
    assert_eq!(diff.packages[0].after.as_deref(), Some("sha256:0123"));
}
