//! Kernel parameters by dotted name, as in sysctl(8).

use bootwright_base::sys::Sys;
use bootwright_contract::ByName;
use bootwright_contract::sysctl::file_of;
use nix::errno::Errno;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
#[error("sysctl `{key}` = `{value}`: {source}")]
pub struct SysctlError {
    key: String,
    value: String,
    source: Errno,
}

/// Sets all parameters. Returns an error for each that the kernel does not have or refuses.
pub fn set_all(sys: &dyn Sys, values: &ByName<String>) -> Vec<SysctlError> {
    let set = |(key, value): &(String, String)| {
        let source = sys.write(Path::new(&file_of(key)), value).err()?;
        Some(SysctlError { key: key.clone(), value: value.clone(), source })
    };
    values.iter().filter_map(set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::sys::fake::FakeSys;

    #[test]
    fn names_become_paths_and_failures_are_told() {
        let values = [("kernel.panic", "10"), ("net.ipv4.conf.eth0/1.forwarding", "1")];
        let values: ByName<String> = values.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let fake = FakeSys::failing(&["write /proc/sys/kernel"]);
        let failed = set_all(&fake, &values);
        assert_eq!(
            fake.calls(),
            ["write /proc/sys/kernel/panic 10", "write /proc/sys/net/ipv4/conf/eth0.1/forwarding 1"]
        );
        assert_eq!(failed.len(), 1);
        assert!(failed[0].to_string().starts_with("sysctl `kernel.panic` = `10`: EPERM"));
    }
}
