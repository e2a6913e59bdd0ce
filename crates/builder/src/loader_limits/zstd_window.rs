//! The window that a zstd frame declares (RFC 8878, section 3.1.1.1).

/// Bytes, by the first 14 of a frame; `None` for what is no frame.
pub fn zstd_window(start: &[u8]) -> Option<u64> {
    let rest = start.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?;
    let (descriptor, rest) = rest.split_first()?;
    if descriptor & 0x20 == 0 {
        let (exponent, mantissa) = (rest.first()? >> 3, rest.first()? & 7);
        let base = 1u64 << (10 + exponent);
        return Some(base + base / 8 * u64::from(mantissa));
    }
    // One segment: the window is the content, whose size follows the dictionary's id.
    let rest = rest.get(usize::from([0u8, 1, 2, 4][usize::from(descriptor & 3)])..)?;
    let size = |bytes: usize| {
        let field = rest.get(..bytes)?;
        Some(field.iter().rev().fold(0u64, |size, byte| size << 8 | u64::from(*byte)))
    };
    match descriptor >> 6 {
        0 => size(1),
        // Two bytes count from 256 on.
        1 => size(2).map(|size| size + 256),
        2 => size(4),
        _ => size(8),
    }
}
