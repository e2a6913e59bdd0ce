//! `boot.ipxe`: what iPXE runs to boot an image. Commands as in <https://ipxe.org/cmd> since 2013.
//!
//! A script that chains to it may set variables before; each may be left out:
//!
//! | variable | meaning |
//! |---|---|
//! | `bw-args` | more words for the kernel command line |
//! | `bw-url` | the folder that this script lies in, as an absolute address with a `/` at its end, for an iPXE without `${cwduri}` |
//! | `bw-root` | `bw.root=...` instead of the script's own |
//! | `bw-segment` | a node's own segment, as an address relative to this script |
//! | `bw-signatures` | the folder of the boot files' signatures, relative to this script, for `imgverify`; an iPXE that cannot verify boots nothing then |
//! | `bw-segment-signature` | of the node's own segment, relative to this script |
//! | `bw-san` | iPXE connects to this `iscsi:` address first, and hands it over in the iBFT |

use super::root::IMAGE;
use super::{EmitError, INITRD, Image, KERNEL};
use crate::recipe::{RootMode, default_place};
use bootwright_contract::manifest::manifest_path;

/// On the kernel command line: where PID1 finds the signed manifest of a root.
pub const MANIFEST_WORD: &str = "bw.manifest=";

/// Attempts before the script gives up, and seconds between two of them.
const ATTEMPTS: u32 = 5;
const PAUSE_S: u32 = 2;

/// The script. All addresses are relative to its own, so a folder can be served from anywhere.
pub fn boot_script(image: &Image<'_>) -> Result<String, EmitError> {
    let recipe = &image.recipe.name;
    let id = image.image_id;
    let (root_lines, manifest_lines) = (root_lines(image), manifest_lines(image));
    let kernel_line = kernel_line(image)?;
    Ok(format!(
        "#!ipxe\n\
         # {recipe}, image {id}\n\
         echo bootwright: booting {recipe}, image {id}\n\
         isset ${{bw-url}} || set bw-url ${{cwduri}} ||\n\
         clear bw-initrd ||\n\
         isset ${{bw-segment}} && set bw-initrd initrd=node.img ||\n\
         {root_lines}{manifest_lines}\
         :start\n\
         isset ${{bw-signatures}} || goto begin\n\
         imgtrust || goto cannot_verify\n\
         :begin\n\
         set bw-try:int32 1\n\
         :again\n\
         imgfree\n\
         isset ${{bw-san}} || goto load\n\
         set bw-step connecting to ${{bw-san}}\n\
         sanunhook --drive 0x80 ||\n\
         sanhook --drive 0x80 ${{bw-san}} || goto failed\n\
         :load\n\
         set bw-step loading {KERNEL}\n\
         kernel {kernel_line} || goto failed\n\
         set bw-step loading {INITRD}\n\
         initrd {INITRD} || goto failed\n\
         isset ${{bw-segment}} || goto verify\n\
         set bw-step loading ${{bw-segment}}\n\
         initrd --name node.img ${{bw-segment}} || goto failed\n\
         :verify\n\
         isset ${{bw-signatures}} || goto boot\n\
         set bw-step verifying the signatures\n\
         imgverify {KERNEL} ${{bw-signatures}}{KERNEL}.sig || goto failed\n\
         imgverify {INITRD} ${{bw-signatures}}{INITRD}.sig || goto failed\n\
         isset ${{bw-segment}} || goto boot\n\
         imgverify node.img ${{bw-segment-signature}} || goto failed\n\
         :boot\n\
         set bw-step starting the kernel\n\
         boot || goto failed\n\
         :failed\n\
         echo bootwright: ${{bw-step}} failed, attempt ${{bw-try}} of {ATTEMPTS}; the reason stands above\n\
         iseq ${{bw-try}} {ATTEMPTS} && goto give_up ||\n\
         inc bw-try\n\
         sleep {PAUSE_S}\n\
         goto again\n\
         :cannot_verify\n\
         echo bootwright: this iPXE cannot verify signatures, it was built without IMAGE_TRUST_CMD: take one that was, or write the chain without signatures\n\
         :give_up\n\
         echo bootwright: {recipe} could not be booted, image {id}\n\
         echo bootwright: address ${{netX/ip}}, gateway ${{netX/gateway}}, name server ${{netX/dns}}\n\
         prompt --timeout 60000 Press a key within 60 s for a shell (its command exit tries again), or wait for a reboot || goto restart\n\
         shell\n\
         goto start\n\
         :restart\n\
         reboot || exit 1\n"
    ))
}

/// The kernel and its command line, as the script names them. They are what an EFI kernel gets as its load options.
pub fn kernel_line(image: &Image<'_>) -> Result<String, EmitError> {
    let words = image.recipe.kernel.cmdline_words().map(check_word).collect::<Result<Vec<_>, _>>()?;
    let manifest: &[&str] = if manifest_lines(image).is_empty() { &[] } else { &["${bw-manifest}"] };
    // iPXE names images by the last part of their address; an EFI kernel finds its initrds by those names.
    let first = [KERNEL, "initrd=initrd.img", "${bw-initrd}", "BOOTIF=01-${netX/mac:hexhyp}"];
    Ok([&first, words.as_slice(), manifest, &["${bw-root}", "${bw-args}"]].concat().join(" "))
}

/// The lines that set `${bw-root}` for a root whose server the recipe leaves open: the one that this script came from, or
/// the one that DHCP names.
fn root_lines(image: &Image<'_>) -> String {
    let root = &image.recipe.root;
    match root.mode {
        RootMode::Ram => String::new(),
        _ if root.names_sources => String::new(),
        // An iPXE that does not know where the script came from leaves it to PID1, which asks the boot server.
        RootMode::Http => format!(
            "isset ${{bw-url}} || goto root_is_set\n\
             isset ${{bw-root}} || set bw-root bw.root=${{bw-url}}{IMAGE} ||\n\
             :root_is_set\n"
        ),
        mode => {
            let place = default_place(&image.recipe.name, mode);
            format!("isset ${{bw-root}} || set bw-root bw.root={mode}://${{next-server}}/{place} ||\n")
        }
    }
}

/// The lines that set `${bw-manifest}` where the initrd takes roots that were signed later, and has no web server's address for
/// them: they lie beside this script. PID1 does without them where it came by TFTP.
fn manifest_lines(image: &Image<'_>) -> String {
    let mut words = image.recipe.kernel.cmdline_words();
    if !image.is_renewable() || image.recipe.root.mode == RootMode::Http || words.any(|w| w.starts_with(MANIFEST_WORD))
    {
        return String::new();
    }
    let name = manifest_path(IMAGE);
    format!("clear bw-manifest ||\nisset ${{bw-url}} && set bw-manifest {MANIFEST_WORD}${{bw-url}}{name} ||\n")
}

/// iPXE would read these as something else than a word.
fn check_word(word: &str) -> Result<&str, EmitError> {
    let problem = match word {
        "||" | "&&" => "iPXE takes it for an operator",
        _ if word.contains("${") => "iPXE takes it for a setting",
        _ if !word.chars().all(|c| c.is_ascii_graphic()) => "only printable ASCII is safe there",
        _ => return Ok(word),
    };
    Err(EmitError::CommandLine { word: word.into(), problem })
}
