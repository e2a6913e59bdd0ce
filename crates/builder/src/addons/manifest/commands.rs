//! Commands of containers: what they load into the node's kernel and run on the node itself.

use super::Field;
use super::field::FieldProblem;
use crate::profiles::NeedKind;
use bootwright_contract::modalias::kernel_name;

/// What ends a command in a shell's text.
const ENDS: [&str; 4] = [";", "|", "&", "("];
/// Options of nsenter(1) that take a value as a word of its own.
const VALUED: [&str; 6] = ["-t", "--target", "-S", "--setuid", "-G", "--setgid"];

/// What `command` and `args` need: modules that they load with modprobe, programs that they run in the node's own mount
/// namespace. What a variable names is passed over.
pub fn command_needs(command: Field<'_>, args: Field<'_>) -> Result<Vec<(NeedKind, String)>, FieldProblem> {
    let mut words: Vec<String> = Vec::new();
    for field in [command, args] {
        for item in field.list()? {
            // Templates are no concern here: a script may hold `{{` of its own.
            words.extend(item.as_str().map(split).unwrap_or_default());
        }
    }
    Ok(needs_of_words(&words))
}

/// The same of a shell script; what it says in comments is passed over.
pub fn needs_of_script(script: &str) -> Vec<(NeedKind, String)> {
    let lines: Vec<&str> = script.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    needs_of_words(&split(&lines.join("\n")))
}

fn needs_of_words(words: &[String]) -> Vec<(NeedKind, String)> {
    let mut needs = Vec::new();
    for (i, word) in words.iter().enumerate() {
        let rest = || words[i + 1..].iter().map(String::as_str).take_while(|word| !ENDS.contains(word));
        match word.rsplit('/').next().unwrap_or_default() {
            "modprobe" => needs.extend(modules(rest())),
            "nsenter" => needs.extend(of_nsenter(rest())),
            "chroot" => needs.extend(rest().filter(|word| !word.starts_with('-')).nth(1).and_then(program)),
            _ => {}
        }
    }
    needs
}

/// Words of a shell's text without its quotes; what ends a command is a word of its own.
fn split(text: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => spaced.push_str(" ; "),
            ';' | '|' | '&' | '(' => spaced.push_str(&format!(" {c} ")),
            ')' | '"' | '\'' => {}
            c => spaced.push(c),
        }
    }
    spaced.split_whitespace().map(Into::into).collect()
}

/// Names after modprobe's options (modprobe(8)): all of them with `-a`, else the first, as parameters follow.
fn modules<'w>(words: impl Iterator<Item = &'w str>) -> Vec<(NeedKind, String)> {
    let words: Vec<&str> = words.collect();
    let is_removal = words.iter().any(|word| ["-r", "--remove"].contains(word));
    let all = words.iter().any(|word| ["-a", "--all"].contains(word) || word.starts_with("-va"));
    let is_name = |word: &&str| {
        !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
            && !word.starts_with('-')
    };
    let names = words.into_iter().filter(|word| !word.starts_with('-')).take_while(is_name);
    let names = names.take(if is_removal {
        0
    } else if all {
        usize::MAX
    } else {
        1
    });
    names.map(|name| (NeedKind::Module, kernel_name(name))).collect()
}

/// The program that nsenter runs, if it enters the node's mount namespace (`-m`, `--mount`, `-a`, `--all`).
fn of_nsenter<'w>(words: impl Iterator<Item = &'w str>) -> Option<(NeedKind, String)> {
    let mut enters = false;
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        match word {
            "--" => return enters.then(|| words.next().and_then(program))?,
            word if VALUED.contains(&word) => drop(words.next()),
            word if word.starts_with("--") => enters |= word.starts_with("--mount") || word == "--all",
            word if word.starts_with('-') => enters |= word.contains(['m', 'a']),
            word => return enters.then(|| program(word))?,
        }
    }
    None
}

fn program(word: &str) -> Option<(NeedKind, String)> {
    (!word.contains(['$', '`', '{', '*'])).then(|| (NeedKind::Program, word.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn modules_and_programs_of_the_node_are_found_in_commands() {
        let module = |name: &str| (NeedKind::Module, name.to_string());
        let program = |name: &str| (NeedKind::Program, name.to_string());
        for (command, expected) in [
            (json!(["modprobe", "-a", "ip_vs", "nf-conntrack"]), vec![module("ip_vs"), module("nf_conntrack")]),
            (json!(["sh", "-c", "set -e; modprobe nbd nbds_max=16 && echo ok"]), vec![module("nbd")]),
            (json!(["sh", "-c", "/sbin/modprobe br_netfilter\nmodprobe $X || true"]), vec![module("br_netfilter")]),
            (json!(["modprobe", "-r", "kvm"]), vec![]),
            (json!(["nsenter", "--target", "1", "--mount", "--", "iscsiadm", "-m", "node"]), vec![program("iscsiadm")]),
            (json!(["nsenter", "-t", "1", "-m", "/bin/bash", "-c", "x"]), vec![program("/bin/bash")]),
            (json!(["nsenter", "--net=/proc/1/ns/net", "ip", "a"]), vec![]),
            (json!(["sh", "-ec", "nsenter --mount=/hostproc/1/ns/mnt \"${BIN_PATH}/cilium-mount\" $C;"]), vec![]),
            (json!(["chroot", "/host", "systemctl", "restart", "x"]), vec![program("systemctl")]),
            (json!(["/usr/bin/falco", "--modprobe-nothing"]), vec![]),
            (json!([1, {}, null]), vec![]),
        ] {
            let none = json!(null);
            let args = Field { name: "args", value: &none };
            assert_eq!(command_needs(Field { name: "command", value: &command }, args).unwrap(), expected, "{command}");
        }
        let script = "#!/bin/sh\n# modprobe not_this\nif [ -x /host/sbin/iscsiadm ]; then\n  chroot /host /sbin/iscsiadm \"$@\"\nfi\n";
        assert_eq!(needs_of_script(script), [program("/sbin/iscsiadm")]);
        let text = json!("modprobe x");
        let fields = [Field { name: "command", value: &text }, Field { name: "args", value: &text }];
        assert!(command_needs(fields[0], fields[1]).is_err(), "a command is a list");
    }
}
