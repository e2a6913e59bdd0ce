//! The part of an x86 kernel's setup header that says where it and its initrd go (Documentation/arch/x86/boot.rst, "The Real-Mode
//! Kernel Header").

/// Of protocol 2.10 and later, which is Linux 2.6.31.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetupHeader {
    /// Highest address that the last byte of an initrd may have.
    pub initrd_addr_max: u32,
    /// Longest command line, without its NUL.
    pub cmdline_size: u32,
    /// Where the kernel unpacks itself to.
    pub pref_address: u64,
    /// Bytes that it takes there until it knows its memory.
    pub init_size: u32,
}

impl SetupHeader {
    /// Bytes of a kernel that have to be read.
    pub const BYTES: u64 = 0x264;

    /// Of the first bytes of a kernel; `None` for a file of another kind, or an older protocol.
    pub fn parse(start: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| start.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let version = start.get(0x206..0x208)?.try_into().ok().map(u16::from_le_bytes)?;
        if start.get(0x202..0x206)? != b"HdrS" || version < 0x020a {
            return None;
        }
        Some(Self {
            initrd_addr_max: u32_at(0x22c)?,
            cmdline_size: u32_at(0x238)?,
            pref_address: start.get(0x258..0x260)?.try_into().ok().map(u64::from_le_bytes)?,
            init_size: u32_at(0x260)?,
        })
    }
}
