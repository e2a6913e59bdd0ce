//! PID1's own parameters on the kernel command line. docs/pid1.md describes them.

use crate::boot::policy::parse_policy;
use bootwright_base::cmdline::Cmdline;
use bootwright_contract::{PhaseId, is_tmpfs_size};
use bootwright_netconf::files::is_host_name;

/// What a value must be to have an effect.
enum Form {
    /// Whoever uses the value judges it, and says what is wrong.
    Judged,
    Number,
    HostName,
    TmpfsSize,
    Phase,
    Policy,
    /// How contents are compared.
    Comparison,
}

use Form::{Comparison, HostName, Judged, Number, Phase, Policy, TmpfsSize};

/// All of them, beside `bw.policy.PHASE`.
const PARAMETERS: &[(&str, Form)] = &[
    ("bw.debug", Judged),
    ("bw.hostname", HostName),
    ("bw.iscsi.initiator", Judged),
    ("bw.logs", Judged),
    ("bw.manifest", Judged),
    ("bw.node", Judged),
    ("bw.overlay_size", TmpfsSize),
    ("bw.poweroff_after_s", Number),
    ("bw.read_ahead_kb", Number),
    ("bw.report", Judged),
    ("bw.root", Judged),
    ("bw.shell", Judged),
    ("bw.stop", Phase),
    ("bw.time", Judged),
    ("bw.timeline", Judged),
    ("bw.verify", Comparison),
    ("bw.zram_mib", Number),
];

/// Removes what has no effect: unknown keys that begin with `bw.`, and values that are not of their key's form. Returns a
/// line about each. An empty value counts as not given.
pub fn remove_ineffective(cmdline: &mut Cmdline) -> Vec<String> {
    let mut notes = Vec::new();
    cmdline.retain(|key, value| {
        if !key.starts_with("bw.") {
            return true;
        }
        let Some(form) = form_of(key) else {
            notes.push(["`", key, "` on the kernel command line is not known"].concat());
            return false;
        };
        let Some(value) = value.filter(|value| !value.is_empty() && !form.takes(value)) else { return true };
        notes.push(["`", key, "=", value, "` is left out: expected ", form.expected()].concat());
        false
    });
    notes
}

fn form_of(key: &str) -> Option<&'static Form> {
    if key.strip_prefix("bw.policy.").is_some_and(|name| PhaseId::of(name).is_some()) {
        return Some(&Policy);
    }
    PARAMETERS.iter().find(|(name, _)| *name == key).map(|(_, form)| form)
}

impl Form {
    fn takes(&self, value: &str) -> bool {
        match self {
            Judged => true,
            Number => value.parse::<u32>().is_ok(),
            HostName => is_host_name(value),
            TmpfsSize => is_tmpfs_size(value),
            Phase => PhaseId::of(value).is_some(),
            Policy => parse_policy(value).is_some(),
            Comparison => matches!(value, "0" | "1" | "sha256"),
        }
    }

    /// What a line about a wrong value says.
    fn expected(&self) -> &'static str {
        match self {
            Judged => "",
            Number => "a number",
            HostName => "letters, digits, `-` and dots",
            TmpfsSize => "a size such as `64M` or `20%`",
            Phase => "the name of a phase",
            Policy => "degrade, shell, reboot:N or retry:N:POLICY",
            Comparison => "0, 1 or sha256",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::cmdline::parse_cmdline;

    #[test]
    fn what_has_no_effect_is_removed_and_said() {
        for (word, said) in [
            ("bw.hostnam=x", "`bw.hostnam` on the kernel command line is not known"),
            ("bw.policy.moon=shell", "`bw.policy.moon` on the kernel command line is not known"),
            (
                "bw.policy.root=explode",
                "`bw.policy.root=explode` is left out: expected degrade, shell, reboot:N or retry:N:POLICY",
            ),
            ("bw.hostname=-x", "`bw.hostname=-x` is left out: expected letters, digits, `-` and dots"),
            ("bw.hostname=a\u{fffd}", "`bw.hostname=a\u{fffd}` is left out: expected letters, digits, `-` and dots"),
            ("bw.overlay_size=lots", "`bw.overlay_size=lots` is left out: expected a size such as `64M` or `20%`"),
            ("bw.poweroff_after_s=1h", "`bw.poweroff_after_s=1h` is left out: expected a number"),
            ("bw.read_ahead_kb=-1", "`bw.read_ahead_kb=-1` is left out: expected a number"),
            ("bw.stop=moon", "`bw.stop=moon` is left out: expected the name of a phase"),
            ("bw.verify=md5", "`bw.verify=md5` is left out: expected 0, 1 or sha256"),
            ("bw.zram_mib=many", "`bw.zram_mib=many` is left out: expected a number"),
        ] {
            let mut line = parse_cmdline(&["ro ", word, " bw.x.y quiet"].concat());
            let unknown = "`bw.x.y` on the kernel command line is not known";
            assert_eq!(remove_ineffective(&mut line), [said, unknown], "{word}");
            assert_eq!(line, parse_cmdline("ro quiet"), "{word}");
        }
    }

    #[test]
    fn what_has_an_effect_stays() {
        let text = "quiet bw.debug bw.shell=0 bw.hostname=n1.lab. bw.hostname= bw.manifest=http://10.0.0.1/root.json \
            bw.overlay_size=64M bw.policy.root=retry:2:shell bw.stop=root bw.verify=sha256 bw.verify=0 bw.zram_mib=0 bw.time=";
        let mut line = parse_cmdline(text);
        assert_eq!((remove_ineffective(&mut line), line), (vec![], parse_cmdline(text)));
    }

    /// A mistake after a good value leaves that one in force.
    #[test]
    fn the_last_good_value_counts() {
        let mut line = parse_cmdline("bw.overlay_size=64M bw.overlay_size=lots");
        assert_eq!(remove_ineffective(&mut line).len(), 1);
        assert_eq!(line.value("bw.overlay_size"), Some("64M"));
    }
}
