//! `modprobe`, as the kernel (`request_module`), CNI plugins, iptables and people call it: modprobe(8) without
//! modprobe.d. Exit status: 0 when the modules are loaded (or removed) now, 1 otherwise.

use crate::base::words::words;
use crate::modules::{self, ModuleIndex, ModuleLoader};
use bootwright_base::cmdline::{Cmdline, kernel_cmdline};
use bootwright_base::output::complain;
use bootwright_base::sys::{RealSys, Sys};
use bootwright_contract::modalias::kernel_name;
use nix::errno::Errno;
use std::ffi::OsString;

/// The parsed arguments.
#[derive(Debug, Default, PartialEq)]
struct ModprobeRequest {
    quiet: bool,
    remove: bool,
    dry_run: bool,
    /// All words are modules. Otherwise words after the first are its options.
    all: bool,
    words: Vec<String>,
}

/// Runs the program; returns its exit status.
pub fn run(args: &[OsString]) -> u8 {
    let args = match words(args) {
        Ok(args) => args,
        Err(problem) => {
            complain(&["modprobe: ", &problem.to_string()]);
            return 1;
        }
    };
    let request = parse_args(&args);
    let cmdline = kernel_cmdline().unwrap_or_default();
    let outcome = ModuleIndex::load(&modules::folder(&modules::running_release()))
        .map_err(|e| vec![e.to_string()])
        .and_then(|index| carry_out(&RealSys, &index, &with_options(cmdline, &request), &request));
    let Err(errors) = outcome else { return 0 };
    if !request.quiet {
        errors.iter().for_each(|error| complain(&["modprobe: ", &error.to_string()]));
    }
    1
}

/// Options without an effect here are ignored, so that no caller fails because of one.
fn parse_args(args: &[&str]) -> ModprobeRequest {
    let mut request = ModprobeRequest::default();
    let mut only_words = false;
    let mut skip = false;
    for arg in args {
        if std::mem::take(&mut skip) {
            continue;
        }
        match *arg {
            word if only_words || !word.starts_with('-') => request.words.push(word.into()),
            "--" => only_words = true,
            "--quiet" => request.quiet = true,
            "--remove" => request.remove = true,
            "--dry-run" | "--show" => request.dry_run = true,
            "--all" => request.all = true,
            // The next word is the value of these options.
            "-C" | "-d" | "-S" | "--config" | "--dirname" | "--set-version" => skip = true,
            long if long.starts_with("--") => {}
            short => short[1..].chars().for_each(|letter| match letter {
                'q' => request.quiet = true,
                'r' => request.remove = true,
                'n' => request.dry_run = true,
                'a' => request.all = true,
                _ => {}
            }),
        }
    }
    request
}

fn names(request: &ModprobeRequest) -> &[String] {
    if request.all || request.remove { &request.words } else { &request.words[..request.words.len().min(1)] }
}

/// Adds the options in `modprobe nbd nbds_max=0` to the command line, from which the loader takes options.
fn with_options(mut cmdline: Cmdline, request: &ModprobeRequest) -> Cmdline {
    if let ([name], false) = (names(request), request.remove) {
        for option in &request.words[1..] {
            cmdline.append(&format!("{name}.{option}"));
        }
    }
    cmdline
}

fn carry_out(
    sys: &dyn Sys,
    index: &ModuleIndex,
    cmdline: &Cmdline,
    request: &ModprobeRequest,
) -> Result<(), Vec<String>> {
    let mut errors = Vec::new();
    for word in names(request) {
        for name in resolve(index, word) {
            let outcome = match (request.dry_run, request.remove) {
                (true, _) => check_known(index, &name),
                (_, true) => remove(sys, index, &name),
                _ => ModuleLoader::new(sys, index, cmdline).load(&name).map_err(|e| e.to_string()),
            };
            errors.extend(outcome.err());
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The names that a word stands for: the module of that name, else the modules with that alias, else the word itself,
/// which is reported as an error later.
fn resolve(index: &ModuleIndex, word: &str) -> Vec<String> {
    let name = kernel_name(word);
    if index.file(&name).is_some() || index.is_builtin(&name) {
        return vec![name];
    }
    match index.serving(word) {
        serving if serving.is_empty() => vec![name],
        serving => serving,
    }
}

fn check_known(index: &ModuleIndex, name: &str) -> Result<(), String> {
    match index.file(name).is_some() || index.is_builtin(name) {
        true => Ok(()),
        false => Err(format!("module `{name}` is not in the image")),
    }
}

/// Removes a module, then those of its dependencies that nobody uses any more.
fn remove(sys: &dyn Sys, index: &ModuleIndex, name: &str) -> Result<(), String> {
    if !sys.has_module(name) {
        return Ok(());
    }
    sys.unload_module(name).map_err(|errno| format!("cannot unload module `{name}`: {errno}"))?;
    for need in index.needs(name) {
        // Other errors are normal: another module uses it (EWOULDBLOCK), or it is built in.
        if let Err(Errno::EPERM) = sys.unload_module(need) {
            return Err(format!("cannot unload module `{need}`: not permitted"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::tests::index;
    use bootwright_base::sys::fake::FakeSys;

    fn modprobe(line: &str) -> (Result<(), Vec<String>>, Vec<String>) {
        let dep = "k/ip_vs.ko.xz: k/nf.ko\nk/nf.ko:\nk/there.ko: k/nf.ko\n";
        let index = index(dep, "alias net-pf-10-proto-* ip_vs\n", "", "k/ipv6.ko\n");
        let args: Vec<&str> = line.split_whitespace().collect();
        let request = parse_args(&args);
        let fake = FakeSys::default();
        let cmdline = with_options(Cmdline::default(), &request);
        (carry_out(&fake, &index, &cmdline, &request), fake.calls())
    }

    #[test]
    fn calls() {
        let nf = "load_module /m/k/nf.ko  false";
        let cases: &[(&str, &[&str])] = &[
            ("-q -- net-pf-10-proto-6", &[nf, "load_module /m/k/ip_vs.ko.xz  true"]),
            ("-q -b -- ip-vs", &[nf, "load_module /m/k/ip_vs.ko.xz  true"]),
            ("ipv6", &[]),
            ("there", &[]),
            ("nf size=4 on", &["load_module /m/k/nf.ko size=4 on false"]),
            ("-a nf ip_vs", &[nf, nf, "load_module /m/k/ip_vs.ko.xz  true"]),
            ("-n ip_vs", &[]),
            ("-r there", &["unload_module there", "unload_module nf"]),
            ("-r nf", &[]),
        ];
        for (line, expected) in cases {
            let (outcome, calls) = modprobe(line);
            assert_eq!((outcome, calls), (Ok(()), expected.iter().map(|c| c.to_string()).collect()), "{line}");
        }
    }

    #[test]
    fn unknown_modules_are_errors() {
        for line in ["nothing", "-n nothing", "-q net-pf-99"] {
            let (outcome, _) = modprobe(line);
            assert!(outcome.unwrap_err()[0].contains("is not in the image"), "{line}");
        }
    }

    #[test]
    fn options_are_sorted() {
        let words = |list: &[&str]| list.iter().map(|w| w.to_string()).collect::<Vec<_>>();
        let request = parse_args(&["-qb", "-C", "/x", "--show-depends", "--", "-a"]);
        assert_eq!(request, ModprobeRequest { quiet: true, words: words(&["-a"]), ..ModprobeRequest::default() });
    }
}
