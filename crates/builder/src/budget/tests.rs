use super::ram::*;
use super::*;
use crate::entry::Sha256;

/// Boots that were made in QEMU before this model was written; the figures are from the notes on them.
#[test]
fn the_model_agrees_with_boots_that_failed_and_that_went_well() {
    const MB: u64 = 1_000_000;
    // Name, initrd in bytes, unpacked in bytes, MiB of RAM that failed, MiB that went well.
    let seen = [
        ("84 MB image, stored", 85 * MB, 84 * MB, 260, 300),
        ("274 MB tree, zstd -3", 96 * MB, 274 * MB, 640, 768),
        ("43.0 MB squashfs with busybox and modules", 44_500_000, 45_200_000, 176, 192),
        ("27.5 MB squashfs with busybox and modules", 29_070_000, 29_700_000, 128, 144),
    ];
    for (name, packed, content, failed_mib, fitted_mib) in seen {
        let limit = RootfsLimit::Percent(50);
        let need = unpack_need(Initrd { packed, content, window: 0, limit }).ram_mib;
        assert!(need > failed_mib, "{name}: {failed_mib} MiB failed, the model says {need} do");
        assert!(need <= fitted_mib, "{name}: {fitted_mib} MiB did, the model says {need} are needed");
    }
}

/// The initrd of `worker` in QEMU, with the kernel's own limit of the first rootfs and with that of `base`.
#[test]
fn the_model_agrees_with_what_a_limit_costs() {
    let (packed, content, window) = (39_850_000, 40_480_000, 1_573_000);
    let need = |percent| {
        let limit = RootfsLimit::Percent(percent);
        unpack_need(Initrd { packed, content, window, limit }).ram_mib
    };
    assert!(need(50) > 160, "160 MiB failed, the model says {} do", need(50));
    assert!(need(80) <= 144, "144 MiB did, the model says {} are needed", need(80));
}

/// The initrd of `worker --root nbd` in QEMU, packed in two ways: how much RAM was too little, and how much did.
#[test]
fn the_model_agrees_with_network_roots() {
    let xz = Compression::Xz { level: 8, x86: false };
    // Packed, unpacked, pages of the content; MiB of RAM that failed, MiB that went well.
    let seen = [
        (xz, 2_331_748, 9_951_688, 10_080_256, 104, 112),
        (Compression::Zstd(22), 2_382_724, 9_496_064, 9_625_600, 80, 84),
    ];
    for (how, packed, unpacked, content, failed_mib, fitted_mib) in seen {
        let window = decoder_window(how, unpacked);
        let need = unpack_need(Initrd { packed, content, window, limit: RootfsLimit::Percent(50) }).ram_mib;
        assert!(need > failed_mib && need <= fitted_mib, "{how:?}: the model says {need} MiB");
    }
}

#[test]
fn the_kernel_takes_what_was_measured_at_256_mib() {
    let page_structures = 256 * 1024 / 64;
    assert_eq!(KERNEL_AT_UNPACK / 1024 + page_structures, 54_068);
    assert_eq!(262_144 - (KERNEL_RUNNING / 1024 + page_structures), 215_292);
}

#[test]
fn terms_add_up_to_the_ram() {
    let initrd = Initrd { packed: 30 << 20, content: 40 << 20, window: 8 << 20, limit: RootfsLimit::Percent(50) };
    for need in [unpack_need(initrd), steady_need(1 << 20, RootInRam::Segment(30 << 20), 0, 1 << 16, Some(60))] {
        let sum: u64 = need.terms.iter().map(|t| t.bytes).sum();
        assert!(sum <= need.ram_mib << 20 && sum > (need.ram_mib - 2) << 20, "{need:?}");
        assert!(need.terms.iter().all(|t| !t.source.is_empty()));
    }
    // A small archive with a large dictionary: the dictionary decides.
    let solid = unpack_need(Initrd { content: 4 << 20, window: 32 << 20, ..initrd });
    assert!(solid.terms.iter().any(|t| t.name == "decoder's window" && t.bytes == 32 << 20), "{solid:?}");
    let unlimited = unpack_need(Initrd { limit: RootfsLimit::None, ..initrd });
    assert!(unlimited.ram_mib + 19 < unpack_need(initrd).ram_mib);
}

#[test]
fn zstd_takes_no_larger_window_than_the_content() {
    let (content, beside) = (13 << 20, 512 << 10);
    assert_eq!(decoder_window(Compression::Zstd(22), content), content + beside);
    assert_eq!(decoder_window(Compression::Zstd(19), content), (8 << 20) + beside);
    assert_eq!(decoder_window(Compression::Xz { level: 8, x86: false }, content), 32 << 20);
    assert_eq!(decoder_window(Compression::None, content), 0);
}

#[test]
fn the_rootfs_limit_is_read_from_the_command_line() {
    let limit = |text: &str| parse_rootfs_limit(&[text.to_string()]);
    assert_eq!(limit("console=ttyS0"), RootfsLimit::Percent(50));
    assert_eq!(limit("quiet initramfs_options=nr_inodes=1k,size=90%"), RootfsLimit::Percent(90));
    assert_eq!(limit("initramfs_options=size=0%"), RootfsLimit::Percent(50));
    assert_eq!(limit("rootfstype=ramfs"), RootfsLimit::None);
    assert_eq!(limit("root=/dev/ram0"), RootfsLimit::None);
    assert_eq!(limit("root=/dev/ram0 rootfstype=tmpfs"), RootfsLimit::Percent(50));
}

fn segment(name: SegmentName, size: u64, components: &[(&str, u64)]) -> PackedSegment {
    let share = |packed| ComponentShare { files: 2, raw: packed * 3, packed };
    PackedSegment {
        name,
        path: "/cache/x".into(),
        size,
        sha256: Sha256([0; 32]),
        sums_sha256: Sha256([0; 32]),
        tool: None,
        unpacked: size,
        resident: size,
        files: 1,
        image_size: None,
        verity: None,
        components: components.iter().map(|(name, packed)| (name.to_string(), share(*packed))).collect(),
        file_shares: Default::default(),
        reused: false,
    }
}

fn report(budget: &Budget, earlier: Option<&Earlier>) -> BudgetReport {
    let segments = [
        segment(SegmentName::Boot, 1_000_000, &[("init", 400_000), ("kernel", 600_000)]),
        segment(SegmentName::Root, 30_000_000, &[("kubelet", 20_000_000), ("kernel", 4_000_000), ("tls", 6_000_000)]),
        segment(SegmentName::Config, 4_000, &[("recipe", 4_000)]),
    ];
    let sizes = Sizes {
        kernel: 12_000_000,
        kernel_component: "kernel",
        segments: &segments,
        root: None,
        root_in_ram: 0,
        images: None,
        images_in_ram: 0,
        boot: Compression::Zstd(19),
        stable: Compression::Zstd(19),
        volatile: Compression::Gzip(9),
        cmdline: &[],
        memory: None,
    };
    let files = [("root:usr/bin/kubelet".to_string(), 60_000_000), ("root:etc/x".to_string(), 10)].into();
    assess(sizes, budget, &files, earlier)
}

#[test]
fn limits_that_hold_say_nothing() {
    let limits = Budget {
        boot_files_mb: Some(43.004),
        netroot_initrd_mb: None,
        ram_mib: Some(256),
        workload_mib: Some(60),
        components_mb: [("kubelet".to_string(), 20.0)].into(),
        origin: None,
    };
    let report = report(&limits, None);
    assert_eq!(report.boot_files_bytes, 43_004_000);
    assert_eq!(report.violations(), []);
    assert!(report.check("worker").is_ok());
    let named: Vec<(&str, u64)> = report.components.iter().map(|c| (c.name.as_str(), c.packed)).collect();
    let expected =
        [("kubelet", 20_000_000), ("kernel", 16_600_000), ("tls", 6_000_000), ("init", 400_000), ("recipe", 4_000)];
    assert_eq!(named, expected);
}

#[test]
fn pods_that_have_too_little_are_over_budget_and_every_size_is_shown() {
    let mut report = report(&Budget { ram_mib: Some(512), ..Budget::default() }, None);
    assert_eq!(report.node, None, "the recipe has no `[memory]`");
    let shares = bootwright_contract::fixture::memory();
    let initrd = Initrd { packed: 30 << 20, content: 31 << 20, window: 0, limit: RootfsLimit::None };
    let node = |workload_mib| NodeMemory::of(&MemoryNeeds { shares: shares.clone(), workload_mib }, initrd, 0);
    report.node = Some(node(Some(100)));
    assert_eq!(report.violations(), []);
    report.node = Some(node(Some(300)));
    let left = node(None).at(512).pods >> 10;
    let told = format!(
        "512 MiB of RAM (`ram_mib`) leave {left} MiB for pods, less than the 300 of `workload_mib` in [memory]"
    );
    assert_eq!(report.violations().iter().map(ToString::to_string).collect::<Vec<_>>(), [told]);
    let table = render(&report);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    for ram_mib in ["256", "512", "1024", "8192"] {
        let pods = (node(None).at(ram_mib.parse().expect("a number")).pods >> 10).to_string();
        let row =
            rows.iter().find(|row| row.len() == 8 && row[0] == ram_mib).unwrap_or_else(|| panic!("{ram_mib}: {table}"));
        assert_eq!(row[6], pods, "{table}");
    }
}

#[test]
fn what_is_over_budget_is_named_with_the_offenders_and_what_grew() {
    let limits = Budget {
        boot_files_mb: Some(40.0),
        netroot_initrd_mb: None,
        ram_mib: Some(100),
        workload_mib: Some(60),
        components_mb: [("tls".to_string(), 5.5)].into(),
        origin: None,
    };
    let earlier = Earlier {
        components: [("kubelet", 18_000_000), ("kernel", 16_600_000), ("tls", 7_000_000)]
            .map(|(name, size)| (name.to_string(), size))
            .into(),
        files: [("root:usr/bin/kubelet".to_string(), 55_000_000)].into(),
    };
    let report = report(&limits, Some(&earlier));
    let failure = report.check("worker").unwrap_err();
    assert_eq!(failure.exit, Exit::OverBudget);
    let expected = "`worker` is over budget\n  \
        kernel and initrd are 43.00 MB, over the limit of 40.00 MB (`boot_files_mb`)\n  \
        component `tls` takes 6.00 MB, over its limit of 5.50 MB\n  \
        unpacking needs 140 MiB of RAM, over the limit of 100 (`ram_mib`)\n  \
        running needs 134 MiB of RAM, over the limit of 100 (`ram_mib`)\n  \
        largest components:\n    20.00 MB kubelet\n    16.60 MB kernel\n    6.00 MB tls\n    0.40 MB init\n    4.0 kB recipe\n  \
        grown since the last build:\n    +2.00 MB component kubelet (18.00 MB -> 20.00 MB)\n    \
        +0.40 MB component init (0.0 kB -> 0.40 MB)\n    +4.0 kB component recipe (0.0 kB -> 4.0 kB)\n    \
        +5.00 MB root:usr/bin/kubelet (55.00 MB -> 60.00 MB)\n    +0.0 kB root:etc/x (0.0 kB -> 0.0 kB)";
    assert_eq!(failure.message, expected);
    let table = render(&report);
    for line in ["total", "tmpfs limit of 50 %", "limit 100", "component kubelet"] {
        assert!(table.contains(line), "{line}\n{table}");
    }
}
