//! `boot.ipxe`: what iPXE runs to boot an image. Commands as in <https://ipxe.org/cmd> since 2013.

use super::{EmitError, INITRD, Image, KERNEL};

/// Attempts before the script gives up, and seconds between two of them.
const ATTEMPTS: u32 = 5;
const PAUSE_S: u32 = 2;

/// The script. All addresses are relative to its own, so a folder can be served from anywhere. `${bw-args}`, when a
/// script that chains to this one has set it, is added to the kernel command line.
pub fn boot_script(image: &Image<'_>) -> Result<String, EmitError> {
    let recipe = &image.recipe.name;
    let id = image.image_id;
    let words = image.recipe.kernel.cmdline.iter().flat_map(|part| part.split_ascii_whitespace());
    let words = words.map(check_word).collect::<Result<Vec<_>, _>>()?;
    // iPXE names images by the last part of their address; an EFI kernel finds its initrd by that name.
    let args =
        [&["initrd=initrd.img", "BOOTIF=01-${netX/mac:hexhyp}"], words.as_slice(), &["${bw-args}"]].concat().join(" ");
    Ok(format!(
        "#!ipxe\n\
         # {recipe}, image {id}\n\
         echo bootwright: booting {recipe}, image {id}\n\
         :start\n\
         set bw-try:int32 1\n\
         :again\n\
         imgfree\n\
         set bw-step loading {KERNEL}\n\
         kernel {KERNEL} {args} || goto failed\n\
         set bw-step loading {INITRD}\n\
         initrd {INITRD} || goto failed\n\
         set bw-step starting the kernel\n\
         boot || goto failed\n\
         :failed\n\
         echo bootwright: ${{bw-step}} failed, attempt ${{bw-try}} of {ATTEMPTS}; the reason stands above\n\
         iseq ${{bw-try}} {ATTEMPTS} && goto give_up ||\n\
         inc bw-try\n\
         sleep {PAUSE_S}\n\
         goto again\n\
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
