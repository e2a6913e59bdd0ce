//! A disk on an iSCSI target (RFC 7143), by the kernel's iscsi_tcp and NETLINK_ISCSI, with no other program: discovery,
//! login with CHAP, and a keeper that logs in again for as long as the machine runs.

mod chap;
mod credentials;
mod discovery;
mod disk;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod ibft;
mod initiator;
mod keeper;
mod kernel;
mod login;
mod message;
mod negotiate;
mod pdu;
mod session;
mod target;
mod text;
mod wire;

use super::source::{Iscsi, Source};
use super::{Attached, Site, Watch};
use crate::boot::Boot;
use crate::phases::PhaseError;
use crate::{identity, modules};
use board::State;
use chap::{Challenge, SHORT_SECRET};
use login::Login;
use session::{Peer, PortalError, Session};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use target::{Auth, Credentials, Secret, check_name};

use super::board;

/// The port that IANA gave to iSCSI.
const PORT: u16 = 3260;
/// How long a portal may take for each answer of a discovery.
const DISCOVERY_PATIENCE: Duration = Duration::from_secs(10);
/// How long the kernel may take to find the disks of a session, and their driver to take them.
const DISK_PATIENCE: Duration = Duration::from_secs(15);
/// Connections cannot be made without crc32c, and the kernel asks for it in vain where there is no modprobe yet.
pub const MODULES: &[(&str, &str)] = &[("crc32c_generic", ""), ("iscsi_tcp", ""), ("sd_mod", "")];
/// Shows the firmware's table.
const IBFT_MODULE: (&str, &str) = ("iscsi_ibft", "");
/// Where it does.
const IBFT: &str = "/sys/firmware/ibft";

/// Why there is no disk.
#[derive(Debug, thiserror::Error)]
enum AttachError {
    #[error("iscsi portal {portal} has no target for `{initiator}`")]
    NoTarget { portal: SocketAddr, initiator: String },
    #[error("iscsi portal {portal} has several targets, name one of them: {names}")]
    Several { portal: SocketAddr, names: String },
    #[error("mutual CHAP needs our own user and secret as well")]
    OnlyTheirs,
    #[error("the LUN {0} is not below 16384")]
    Lun(u64),
    #[error("{}", texts(.0))]
    Portals(Vec<PortalError>),
    #[error("no address of an iscsi portal is known")]
    NoPortal,
}

fn texts(errors: &[PortalError]) -> String {
    let texts: Vec<String> = errors.iter().map(PortalError::to_string).collect();
    texts.join("; ")
}

/// What the firmware's table knows, laid under what was asked for; the source as it is if it does not ask for that.
pub fn complete(boot: &Boot, iscsi: &Iscsi) -> Result<Iscsi, PhaseError> {
    if !iscsi.firmware {
        return Ok(iscsi.clone());
    }
    modules::load_named(boot, &[IBFT_MODULE])?;
    let (disk, firmware) = ibft::complete(iscsi, Path::new(IBFT))?;
    if let (Some(mac), Some(bootif)) = (firmware.mac, boot_mac(boot))
        && mac != bootif
    {
        boot.timeline.note(&["the firmware reached its iscsi target by ", &mac, ", and BOOTIF is ", &bootif].concat());
    }
    Ok(disk)
}

/// What the firmware's table says of the card, as `ip=` has it.
pub fn firmware_ip(boot: &Boot) -> Result<String, PhaseError> {
    modules::load_named(boot, &[IBFT_MODULE])?;
    Ok(ibft::ip_param(Path::new(IBFT))?)
}

/// Logs in at the first of `portals` that lets us, and finds the disk; [`MODULES`] are loaded. The keeper that comes with it
/// keeps the session.
pub fn attach(site: &Site, iscsi: &Iscsi, portals: &[SocketAddr]) -> Result<Attached, PhaseError> {
    let (machine, timeline) = (machine_id(site.boot), &site.boot.timeline);
    let asked = site.boot.cmdline.value("bw.iscsi.initiator");
    let firmware = ibft::initiator(Path::new(IBFT));
    let initiator = initiator::choose_name(&[asked, iscsi.initiator.as_deref(), firmware.as_deref()], &machine)?;
    let auth = match &iscsi.credentials {
        Some(path) => credentials::load(Path::new(path))?,
        None => auth(iscsi)?,
    };
    warn_of_short_secrets(&site.watch, &auth);
    let lun = match iscsi.lun {
        0 => None,
        lun => Some(u16::try_from(lun).ok().filter(|l| *l < 1 << 14).ok_or(AttachError::Lun(lun))?),
    };
    let isid = initiator::next_isid(&machine);
    let (target, portals) = match &iscsi.target {
        Some(target) => (check_name(target)?, portals.to_vec()),
        None => timeline.wait(|| find_target(portals, &initiator, isid, &auth))?,
    };
    let given_up = Arc::new(AtomicBool::new(false));
    let peer = Peer { initiator, isid, target, auth, old_chap: false, portals };
    let mut session = Session::create(peer, given_up.clone())?;
    let device = match timeline.wait(|| log_in_and_find(&mut session, lun)) {
        Ok(device) => device,
        Err(error) => {
            // The error is what counts; a session that cannot be ended does no harm.
            let _ = session.destroy();
            return Err(error);
        }
    };
    let name = [&Source::Iscsi(iscsi.clone()).to_string(), " as ", &device.to_string_lossy()].concat();
    site.watch.set(State::Up, &describe(&session, &device));
    let keeper = Box::new(keeper::keep(session, site.watch.clone(), given_up, name)?);
    Ok(Attached { device, keeper })
}

/// Logs in at the first portal that lets us, and finds the disk.
fn log_in_and_find(session: &mut Session, lun: Option<u16>) -> Result<std::path::PathBuf, PhaseError> {
    let mut failed = Vec::new();
    for portal in session.peer.portals.clone() {
        match session.connect(portal, &|| ()) {
            Ok(()) => break,
            Err(error) => failed.push(error),
        }
    }
    if session.portal.is_none() {
        return Err(if failed.is_empty() { AttachError::NoPortal } else { AttachError::Portals(failed) }.into());
    }
    let search = disk::Search {
        system: Path::new("/sys"),
        devices: Path::new("/dev"),
        session: session.number,
        host: session.host,
        target: &session.peer.target,
        lun,
    };
    Ok(search.run(DISK_PATIENCE)?)
}

/// `target at portal as initiator, /dev/sda`, for the log.
fn describe(session: &Session, device: &Path) -> String {
    let peer = &session.peer;
    let portal = session.portal.map(|portal| portal.to_string()).unwrap_or_default();
    ["`", &peer.target, "` on ", &portal, " as `", &peer.initiator, "`, ", &device.to_string_lossy()].concat()
}

/// The only target of the first portal that has one, and where it is.
fn find_target(
    portals: &[SocketAddr],
    initiator: &str,
    isid: pdu::Isid,
    auth: &Auth,
) -> Result<(String, Vec<SocketAddr>), PhaseError> {
    let mut outcome: Result<_, PhaseError> = Err(AttachError::NoPortal.into());
    for first in portals {
        let login = Login { initiator, target: None, isid, auth, challenge: new_challenge(auth), old_chap: false };
        match discovery::discover(*first, &login, DISCOVERY_PATIENCE) {
            Ok((portal, found)) => {
                outcome = match &found[..] {
                    [] => Err(AttachError::NoTarget { portal, initiator: initiator.into() }.into()),
                    [one] => return Ok((check_name(&one.name)?, discovery::portals(portal, one))),
                    several => {
                        let names: Vec<&str> = several.iter().map(|found| found.name.as_str()).collect();
                        Err(AttachError::Several { portal, names: names.join(", ") }.into())
                    }
                };
            }
            Err(error) => outcome = Err(error.into()),
        }
    }
    outcome
}

fn auth(iscsi: &Iscsi) -> Result<Auth, AttachError> {
    let credentials = |user: &Option<String>, secret: &Option<String>| match (user, secret) {
        (None, None) => None,
        (user, secret) => Some(Credentials {
            user: user.clone().unwrap_or_default(),
            secret: Secret::new(secret.clone().unwrap_or_default()),
        }),
    };
    let auth =
        Auth { ours: credentials(&iscsi.user, &iscsi.secret), theirs: credentials(&iscsi.user_in, &iscsi.secret_in) };
    match auth.ours.is_none() && auth.theirs.is_some() {
        true => Err(AttachError::OnlyTheirs),
        false => Ok(auth),
    }
}

fn warn_of_short_secrets(watch: &Watch, auth: &Auth) {
    let short = |c: &&Credentials| c.secret.bytes().len() < SHORT_SECRET;
    if auth.ours.iter().chain(&auth.theirs).any(|c| short(&c)) {
        watch.note("a CHAP secret is shorter than 12 bytes: it can be guessed from what is seen on the wire");
    }
}

/// What tells this machine from others: the MAC that it booted by, else its lowest, else the firmware's UUID.
fn machine_id(boot: &Boot) -> String {
    boot_mac(boot).unwrap_or_else(|| identity::first_mac_or_id(Path::new("/sys")))
}

/// `BOOTIF=01-aa-bb-cc-dd-ee-ff` as a MAC.
fn boot_mac(boot: &Boot) -> Option<String> {
    let value = boot.cmdline.value("BOOTIF")?;
    let mac = if value.len() == 20 { &value[3..] } else { value };
    Some(mac.replace('-', ":").to_ascii_lowercase())
}

/// Random bytes for a challenge of ours, if there is to be one: early in a boot they are waited for.
fn new_challenge(auth: &Auth) -> Challenge {
    let mut challenge = [0; 17];
    if auth.theirs.is_none() {
        return challenge;
    }
    // Fails only in a kernel without the call; a challenge that can be guessed proves less, and nothing else.
    // SAFETY: the buffer is as long as it says.
    let _ = unsafe { nix::libc::getrandom(challenge.as_mut_ptr().cast(), challenge.len(), 0) };
    challenge
}
