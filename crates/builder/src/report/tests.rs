use super::boot::{BootView, view};
use super::tiles::{Tile, lay_out};
use super::*;
use bootwright_contract::console::{PhaseRecord, ServiceRecord, TimelineRecord};

#[test]
fn tiles_fill_the_box_in_proportion_and_do_not_overlap() {
    for weights in [vec![1], vec![6, 6, 4, 3, 2, 2, 1], vec![1000, 1, 1, 1], vec![5; 40], vec![u64::from(u32::MAX), 1]]
    {
        for aspect in [0.3, 1.0, 2.0] {
            let tiles = lay_out(&weights, aspect);
            assert_eq!(tiles.len(), weights.len());
            let total: u64 = weights.iter().sum();
            for (tile, weight) in tiles.iter().zip(&weights) {
                let area = tile.width * tile.height / 10_000.0;
                let wanted = *weight as f64 / total as f64;
                assert!((area - wanted).abs() < 0.001, "{weights:?}: {tile:?} has {area} of {wanted}");
                let ends = [tile.left + tile.width, tile.top + tile.height];
                assert!(tile.left >= 0.0 && tile.top >= 0.0 && ends.iter().all(|end| *end < 100.01), "{tile:?}");
            }
            for (i, a) in tiles.iter().enumerate() {
                for b in &tiles[i + 1..] {
                    let apart = |a0: f64, al: f64, b0: f64, bl: f64| a0 + al <= b0 + 0.01 || b0 + bl <= a0 + 0.01;
                    let (x, y) = (apart(a.left, a.width, b.left, b.width), apart(a.top, a.height, b.top, b.height));
                    assert!(x || y, "{a:?} lies over {b:?}");
                }
            }
        }
    }
    assert_eq!(lay_out(&[7], 2.0), [Tile { left: 0.0, top: 0.0, width: 100.0, height: 100.0 }]);
    assert_eq!(lay_out(&[], 2.0), []);
}

fn timeline() -> TimelineRecord {
    let phase = |name: &str, start_s, end_s: Option<f64>, outcome: Option<&str>| PhaseRecord {
        name: name.into(),
        start_s,
        tries: 0,
        end_s,
        waited_s: 0.0,
        outcome: outcome.map(Into::into),
    };
    TimelineRecord {
        version: 1,
        recipe: "tiny".into(),
        image_id: "0123".into(),
        phases: vec![phase("mounts", 1.0, Some(1.5), Some("ok")), phase("root", 1.5, None, None)],
        services: vec![ServiceRecord { name: "web".into(), start_s: 2.0, ready_s: Some(4.0), restarts: 0, note: None }],
        unserved: Vec::new(),
        unserved_more: 0,
    }
}

#[test]
fn a_boot_is_drawn_over_its_whole_length() {
    let sample =
        |event: &str, uptime_s, mib: u64| RamSample { event: event.into(), uptime_s, touched_bytes: mib << 20 };
    let BootView { length_s, bars, ram, ram_line, ram_most } =
        view(&timeline(), &[sample("phase mounts", 1.5, 50), sample("service:web", 5.0, 200)]);
    assert_eq!(length_s, 5.0);
    let told: Vec<(&str, &str, f64, f64, &str)> =
        bars.iter().map(|b| (b.kind, b.name.as_str(), b.left, b.width, b.outcome.as_str())).collect();
    assert_eq!(
        told,
        [
            ("phase", "mounts", 20.0, 10.0, "ok"),
            ("phase", "root", 30.0, 0.2, "running"),
            ("service", "web", 40.0, 40.0, "ready")
        ]
    );
    assert_eq!((ram_line.as_str(), ram_most.as_str(), ram.len()), ("30,75 100,0", "200 MiB", 2));
    assert_eq!(view(&TimelineRecord { phases: Vec::new(), services: Vec::new(), ..timeline() }, &[]).bars, []);
}

#[test]
fn only_a_boot_of_this_image_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(boot::load(dir.path(), "0123"), None);
    std::fs::write(dir.path().join("timeline.json"), serde_json::to_vec(&timeline()).unwrap()).unwrap();
    assert!(boot::load(dir.path(), "0123").is_some_and(|boot| boot.ram.is_empty()), "an older tool kept no figures");
    assert_eq!(boot::load(dir.path(), "4567"), None);
}
