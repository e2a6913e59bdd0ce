use super::*;

/// Debian 13's: the kernel ends at 64 MiB.
fn header() -> SetupHeader {
    SetupHeader { initrd_addr_max: 0x7fff_ffff, cmdline_size: 2047, pref_address: 16 << 20, init_size: 48 << 20 }
}

fn files() -> BootFiles {
    BootFiles { header: Some(header()), kernel: 12 << 20, initrd: 40 << 20, command_line: 100, ..Default::default() }
}

/// Severity of what is said with these words; that nothing else is said of them.
fn said(files: &BootFiles, words: &str) -> Option<Severity> {
    let found: Vec<Lint> = check_limits(files).into_iter().filter(|lint| lint.message.contains(words)).collect();
    assert!(found.len() <= 1, "{found:?}");
    found.first().map(|lint| lint.severity)
}

#[test]
fn an_ordinary_image_fits_everywhere() {
    assert_eq!(check_limits(&files()), []);
    assert_eq!(check_limits(&BootFiles { header: None, ..files() }), []);
    assert!(refuse("worker", &[]).is_ok());
}

#[test]
fn command_lines_up_to_the_kernels_limit() {
    let of = |command_line| said(&BootFiles { command_line, ..files() }, "command line");
    let (warning, error) = (Some(Severity::Warning), Some(Severity::Error));
    assert_eq!([of(1791), of(1792), of(2047), of(2048)], [None, warning, warning, error]);
    let shorter = |command_line| {
        let header = SetupHeader { cmdline_size: 255, ..header() };
        said(&BootFiles { header: Some(header), command_line, ..files() }, "reads 255")
    };
    assert_eq!([shorter(255), shorter(256)], [None, error], "the kernel's own header counts");
}

#[test]
fn initrds_up_to_the_highest_address() {
    let page = 4096;
    let of = |initrd| said(&BootFiles { initrd, ..files() }, "iPXE and PXELINUX have");
    let room = (2 << 30) - (64 << 20);
    assert_eq!([of(room), of(room + 1), of(room - page + 1)], [None, Some(Severity::Warning), None]);
}

#[test]
fn initrds_up_to_what_grub_has_for_them() {
    let of = |initrd| said(&BootFiles { initrd, ..files() }, "GRUB before 2.12");
    let room = 0x37ff_0000 - (64 << 20);
    assert_eq!([of(room), of(room + 1)], [None, Some(Severity::Warning)]);
}

#[test]
fn kernel_and_initrd_up_to_the_smallest_machine() {
    let of = |initrd| said(&BootFiles { initrd, ram_mib: Some(128), ..files() }, "`ram_mib`");
    assert_eq!([of(64 << 20), of((64 << 20) + 1)], [None, Some(Severity::Warning)]);
    assert_eq!(said(&BootFiles { initrd: 1 << 30, ..files() }, "`ram_mib`"), None, "the recipe says nothing of it");
}

#[test]
fn files_up_to_65535_blocks_of_tftp() {
    for (loader, block) in TFTP_LOADERS {
        let words = format!("{loader}'s {block} bytes");
        let of = |size| {
            let initrd = said(&BootFiles { initrd: size, ..files() }, &words);
            assert_eq!(said(&BootFiles { kernel: size, ..files() }, &words), initrd, "the kernel is fetched too");
            initrd
        };
        // The last block is shorter than the others.
        let most = block * 65_535 - 1;
        assert_eq!([of(most), of(most + 1)], [None, Some(Severity::Warning)], "{loader}");
    }
}

#[test]
fn zstd_windows_up_to_the_decoders_limit() {
    let of = |window| said(&BootFiles { zstd_windows: vec![("boot".into(), window)], ..files() }, "zstd window");
    assert_eq!([of(128 << 20), of((128 << 20) + 1)], [None, Some(Severity::Error)]);
}

#[test]
fn errors_are_refused_and_warnings_are_not() {
    let long = check_limits(&BootFiles { command_line: 2048, ..files() });
    let failure = refuse("worker", &long).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(
        failure.message.contains("no machine could boot `worker`\n  the kernel command line has 2048"),
        "{failure}"
    );
    assert!(refuse("worker", &check_limits(&BootFiles { command_line: 1792, ..files() })).is_ok());
}

#[test]
fn the_header_is_read_where_the_kernel_has_it() {
    let mut kernel = vec![0; SetupHeader::BYTES as usize];
    kernel[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
    kernel[0x22c..0x230].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    kernel[0x238..0x23c].copy_from_slice(&2047u32.to_le_bytes());
    kernel[0x258..0x260].copy_from_slice(&(16u64 << 20).to_le_bytes());
    kernel[0x260..0x264].copy_from_slice(&(48u32 << 20).to_le_bytes());
    assert_eq!(SetupHeader::parse(&kernel), Some(header()));
    assert_eq!(SetupHeader::parse(&kernel[..0x263]), None, "cut short");
    kernel[0x206] = 9;
    assert_eq!(SetupHeader::parse(&kernel), None, "protocol 2.09 has no address");
    assert_eq!(SetupHeader::parse(b"MZ"), None);
}

/// Frames by the library that packs.
#[test]
fn windows_are_read_from_frames() {
    use std::io::Write;
    let streamed = |log: u32, bytes: usize| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        encoder.write_all(&vec![7; bytes]).unwrap();
        encoder.finish().unwrap()
    };
    for log in [10, 17, 27] {
        assert_eq!(zstd_window(&streamed(log, 300)), Some(1 << log));
    }
    for bytes in [0usize, 1, 255, 256, 70_000, 100_000] {
        let mut whole = zstd::bulk::Compressor::new(1).unwrap();
        whole.include_contentsize(true).unwrap();
        let frame = whole.compress(&vec![7; bytes]).unwrap();
        let window = zstd_window(&frame).unwrap();
        assert_eq!(window, bytes as u64, "{:?}", &frame[..4.min(frame.len())]);
    }
    assert_eq!(zstd_window(b"070701"), None);
    assert_eq!(zstd_window(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff]), Some((1u64 << 41) / 8 * 15));
}

#[test]
fn grub_wants_port_80() {
    for (url, fine) in [
        ("http://boot", true),
        ("http://boot:80/images", true),
        ("http://boot:81/images", false),
        ("http://boot:79", false),
        ("http://[2001:db8::1]/x", true),
        ("http://[2001:db8::1]:8080", false),
    ] {
        assert_eq!(check_grub_server(url).is_none(), fine, "{url}");
    }
}
