//! The iSCSI Boot Firmware Table, in which a boot loader leaves its connection. The module `iscsi_ibft` shows it below
//! `/sys/firmware/ibft` (Documentation/ABI/testing/sysfs-ibft).

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Bit 1 of `flags`: the firmware booted from this entry (iBFT specification; bit 0 is "block valid").
const SELECTED: u32 = 2;

/// What is wrong with the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IbftError {
    #[error("the boot firmware left no iscsi table (iBFT): boot by `sanhook` or `sanboot`, or name the target")]
    NoTable,
    #[error("the iscsi table of the boot firmware (iBFT) names no target")]
    NoTarget,
    #[error("the iscsi table of the boot firmware (iBFT) has no address for the card: say `ip=dhcp` or name one")]
    NoAddress,
    #[error("the iscsi table of the boot firmware (iBFT) has the card in VLAN {0}: say `vlan=` and `ip=`")]
    Vlan(String),
    #[error("the iscsi table of the boot firmware (iBFT) has a bad `{key}`: `{value}`")]
    Bad { key: &'static str, value: String },
}

/// The target that the firmware booted from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareTarget {
    pub address: IpAddr,
    pub port: u16,
    pub name: Option<String>,
    /// An error here matters only to those who use the LUN.
    pub lun: Result<u64, IbftError>,
    /// CHAP name and secret of the firmware.
    pub user: Option<String>,
    pub secret: Option<String>,
    /// CHAP name and secret of the target, for mutual CHAP.
    pub user_in: Option<String>,
    pub secret_in: Option<String>,
    /// MAC of the network card to the target.
    pub mac: Option<String>,
}

/// Reads the target that the firmware booted from. `table` is `/sys/firmware/ibft`.
///
/// # Errors
/// [`IbftError`]
pub fn read_target(table: &Path) -> Result<FirmwareTarget, IbftError> {
    if !table.is_dir() {
        return Err(IbftError::NoTable);
    }
    let target = selected(table, "target").ok_or(IbftError::NoTarget)?;
    let read = |key| read(&target, key);
    let address = read("ip-addr").ok_or(IbftError::NoTarget)?;
    let address = address.parse().map_err(|_| IbftError::Bad { key: "ip-addr", value: address })?;
    let port = match read("port") {
        Some(text) => text.parse().map_err(|_| IbftError::Bad { key: "port", value: text })?,
        None => super::PORT,
    };
    let lun = read("lun").map_or(Ok(0), |text| parse_lun(&text).ok_or(IbftError::Bad { key: "lun", value: text }));
    let nic = read("nic-assoc").map(|index| table.join(["ethernet", &index].concat()));
    let nic = nic.filter(|nic| nic.is_dir()).or_else(|| selected(table, "ethernet"));
    Ok(FirmwareTarget {
        address,
        port,
        name: read("target-name"),
        lun,
        user: read("chap-name"),
        secret: read("chap-secret"),
        user_in: read("rev-chap-name"),
        secret_in: read("rev-chap-name-secret"),
        mac: nic.and_then(|nic| self::read(&nic, "mac")),
    })
}

/// The initiator name of the firmware.
pub fn initiator(table: &Path) -> Option<String> {
    read(&table.join("initiator"), "initiator-name")
}

/// The configuration of the network card that the firmware booted from, as the kernel's form of `ip=` with the MAC as
/// the device. When the firmware used DHCP, the result asks for DHCP: nobody else would renew the lease.
///
/// # Errors
/// [`IbftError`]
pub fn ip_param(table: &Path) -> Result<String, IbftError> {
    let nic = selected(table, "ethernet").ok_or(IbftError::NoTable)?;
    let read = |key| read(&nic, key).filter(|text| !matches!(text.as_str(), "0" | "0.0.0.0")).unwrap_or_default();
    let vlan = read("vlan");
    if !vlan.is_empty() {
        return Err(IbftError::Vlan(vlan));
    }
    let device = read("mac").replace(':', "-");
    // `origin` has the values of NL_PREFIX_ORIGIN; 3 is DHCP.
    if !read("dhcp").is_empty() || read("origin") == "3" {
        return Ok([&device, ":dhcp"].concat());
    }
    let address = |key| match read(key) {
        text if text.contains(':') => ["[", &text, "]"].concat(),
        text => text,
    };
    if read("ip-addr").is_empty() {
        return Err(IbftError::NoAddress);
    }
    let mask = [read("prefix-len"), read("subnet-mask")].into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    let fields = [
        address("ip-addr"),
        String::new(),
        address("gateway"),
        mask,
        read("hostname"),
        device,
        "none".into(),
        address("primary-dns"),
        address("secondary-dns"),
    ];
    Ok(fields.join(":"))
}

/// The entry of a kind (such as `target`) that the firmware booted from, else the first.
fn selected(table: &Path, kind: &str) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(table).ok()?.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(kind)));
    bootwright_base::order::sort_by_key(&mut found, |path| path.clone());
    let flags = |path: &PathBuf| read(path, "flags").and_then(|flags| flags.parse::<u32>().ok()).unwrap_or(0);
    let at = found.iter().position(|path| flags(path) & SELECTED != 0).unwrap_or(0);
    found.into_iter().nth(at)
}

/// A value that is there and not empty.
fn read(folder: &Path, key: &str) -> Option<String> {
    let text = fs::read_to_string(folder.join(key)).ok()?;
    Some(text.trim_matches(['\n', '\0', ' ']).to_string()).filter(|text| !text.is_empty())
}

/// The kernel prints the eight bytes of a LUN in hex without leading zeros, one after the other
/// (`ibft_attr_show_target`). For a LUN of one level, six zeros follow the first two bytes.
fn parse_lun(text: &str) -> Option<u64> {
    let digits = text.strip_suffix("000000")?;
    let (high, low) = digits.split_at_checked(if digits.starts_with('0') { 1 } else { 2 })?;
    if low.len() > 1 && low.starts_with('0') {
        return None;
    }
    let (high, low) = (u64::from_str_radix(high, 16).ok()?, u64::from_str_radix(low, 16).ok()?);
    // The two highest bits say whether the number is in peripheral or flat addressing (SAM-5 section 4.7).
    (high < 0x80 && low < 0x100).then_some((high & 0x3f) << 8 | low)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table as iPXE leaves it.
    struct IbftTable(PathBuf);

    impl IbftTable {
        fn new(name: &str) -> IbftTable {
            let table = IbftTable(std::env::temp_dir().join(format!("bootwright-ibft-{name}-{}", std::process::id())));
            for (path, text) in [
                ("initiator/initiator-name", "iqn.2010-04.org.ipxe:0123\n"),
                ("ethernet0/mac", "52:54:00:12:34:56\n"),
                ("ethernet0/flags", "3\n"),
                ("target0/flags", "1\n"),
                ("target0/ip-addr", "10.0.0.1\n"),
                ("target0/target-name", "iqn.wrong\n"),
                ("target1/flags", "3\n"),
                ("target1/ip-addr", "10.0.2.2\n"),
                ("target1/port", "3261\n"),
                ("target1/lun", "01000000\n"),
                ("target1/target-name", "iqn.right\n"),
                ("target1/chap-name", "node\n"),
                ("target1/chap-secret", "secret of node\n"),
                ("target1/rev-chap-name", "\n"),
                ("target1/nic-assoc", "0\n"),
            ] {
                table.write(path, text);
            }
            table
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    impl Drop for IbftTable {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_selected_target() {
        let table = IbftTable::new("good");
        let found = read_target(&table.0).unwrap();
        assert_eq!((found.address, found.port), ("10.0.2.2".parse().unwrap(), 3261));
        assert_eq!((found.name.as_deref(), found.lun), (Some("iqn.right"), Ok(1)));
        assert_eq!((found.user.as_deref(), found.secret.as_deref()), (Some("node"), Some("secret of node")));
        assert_eq!((found.user_in, found.secret_in), (None, None));
        assert_eq!(initiator(&table.0).as_deref(), Some("iqn.2010-04.org.ipxe:0123"));
        assert_eq!(found.mac.as_deref(), Some("52:54:00:12:34:56"));
    }

    #[test]
    fn the_cards_network() {
        let table = IbftTable::new("card");
        assert_eq!(ip_param(&table.0), Err(IbftError::NoAddress));
        for (key, text) in [
            ("ip-addr", "10.0.2.15"),
            ("subnet-mask", "255.255.255.0"),
            ("gateway", "10.0.2.2"),
            ("primary-dns", "10.0.2.3"),
            ("secondary-dns", "0.0.0.0"),
            ("dhcp", "0.0.0.0"),
            ("origin", "0"),
            ("vlan", "0"),
        ] {
            table.write(&["ethernet0/", key].concat(), &[text, "\n"].concat());
        }
        let fixed = ip_param(&table.0).unwrap();
        assert_eq!(fixed, "10.0.2.15::10.0.2.2:255.255.255.0::52-54-00-12-34-56:none:10.0.2.3:");
        let param = bootwright_netconf::ip_param::parse_ip_param(&fixed).unwrap();
        assert_eq!(param.device.as_deref(), Some("52-54-00-12-34-56"));
        assert_eq!(param.address, Some(("10.0.2.15".parse().unwrap(), 24)));
        table.write("ethernet0/ip-addr", "2001:db8::7\n");
        table.write("ethernet0/prefix-len", "64\n");
        table.write("ethernet0/gateway", "2001:db8::1\n");
        assert!(ip_param(&table.0).unwrap().starts_with("[2001:db8::7]::[2001:db8::1]:64::"));
        table.write("ethernet0/dhcp", "10.0.2.2\n");
        let dhcp = ip_param(&table.0).unwrap();
        assert_eq!(dhcp, "52-54-00-12-34-56:dhcp");
        assert_eq!(
            bootwright_netconf::ip_param::parse_ip_param(&dhcp).unwrap().device.as_deref(),
            Some("52-54-00-12-34-56")
        );
        table.write("ethernet0/vlan", "5\n");
        assert_eq!(ip_param(&table.0), Err(IbftError::Vlan("5".into())));
        assert_eq!(ip_param(Path::new("/nowhere")), Err(IbftError::NoTable));
    }

    #[test]
    fn bad_tables_are_named() {
        let table = IbftTable::new("bad");
        table.write("target1/lun", "zz\n");
        let bad = |key, value: &str| IbftError::Bad { key, value: value.into() };
        assert_eq!(read_target(&table.0).unwrap().lun, Err(bad("lun", "zz")), "it is told to who takes it");
        table.write("target1/port", "many\n");
        assert_eq!(read_target(&table.0).unwrap_err(), bad("port", "many"));
        table.write("target1/port", "\n");
        table.write("target1/ip-addr", "nowhere\n");
        assert_eq!(read_target(&table.0).unwrap_err(), bad("ip-addr", "nowhere"));
        table.write("target1/ip-addr", "\n");
        assert_eq!(read_target(&table.0).unwrap_err(), IbftError::NoTarget);
        assert_eq!(read_target(Path::new("/nowhere")).unwrap_err(), IbftError::NoTable);
    }

    #[test]
    fn luns_as_the_kernel_prints_them() {
        for (text, lun) in [
            ("00000000", Some(0)),
            ("01000000", Some(1)),
            ("0ff000000", Some(255)),
            ("410000000", Some(256)),
            ("4001000000", None),
            ("01000001", None),
            ("zz", None),
            ("", None),
        ] {
            assert_eq!(parse_lun(text), lun, "{text}");
        }
    }
}
