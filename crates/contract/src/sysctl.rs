//! Kernel parameters by dotted name, as in sysctl(8): where they are, and what is needed of them.

/// The file of a parameter: `net.ipv4.conf.eth0/1.forwarding` is `/proc/sys/net/ipv4/conf/eth0.1/forwarding`.
pub fn file_of(key: &str) -> String {
    ["/proc/sys/", &swap_separators(key)].concat()
}

/// Dots and slashes change places (sysctl.d(5)).
pub fn swap_separators(key: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    key.chars().map(swap).collect()
}

/// What a kernel parameter has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SysctlNeed<'a> {
    /// Dotted, as in sysctl(8).
    pub key: &'a str,
    /// A larger value does as well.
    pub at_least: bool,
    pub value: &'a str,
}

impl<'a> SysctlNeed<'a> {
    /// `key >= number` or `key = value`.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (left, value) = text.split_once('=')?;
        let (key, at_least) = match left.strip_suffix('>') {
            Some(key) => (key.trim(), true),
            None => (left.trim(), false),
        };
        let value = value.trim();
        let is_good = !key.is_empty() && !value.is_empty() && (!at_least || value.parse::<i64>().is_ok());
        is_good.then_some(Self { key, at_least, value })
    }

    pub fn is_met_by(&self, found: &str) -> bool {
        let found = found.trim();
        match (self.at_least, found.parse::<i64>(), self.value.parse::<i64>()) {
            (true, Ok(found), Ok(least)) => found >= least,
            _ => found == self.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        assert_eq!(file_of("kernel.panic"), "/proc/sys/kernel/panic");
        assert_eq!(file_of("net.ipv4.conf.eth0/1.forwarding"), "/proc/sys/net/ipv4/conf/eth0.1/forwarding");
    }

    #[test]
    fn kernel_parameters_are_compared_as_numbers_where_more_will_do() {
        let need = SysctlNeed::parse("vm.max_map_count >= 262144").unwrap();
        for (found, met) in [("262144\n", true), ("1048576", true), ("65530", false), ("", false), ("much", false)] {
            assert_eq!(need.is_met_by(found), met, "{found}");
        }
        let need = SysctlNeed::parse("net.ipv4.ip_forward=1").unwrap();
        assert_eq!((need.is_met_by("1"), need.is_met_by("2"), need.is_met_by("0")), (true, false, false));
        for bad in ["vm.x", "= 1", "vm.x =", "vm.x >= many"] {
            assert_eq!(SysctlNeed::parse(bad), None, "{bad}");
        }
    }
}
