//! A disk on an iSCSI target (RFC 7143): discovery, login with CHAP, and a thread that logs in again when the
//! connection is lost. The session is the kernel's (iscsi_tcp); no other program is needed.

mod attachment;
mod credentials;

use super::attach_context::AttachContext;
use super::attachment::AttachedDevice;
use super::context::RootContext;
use super::source::{Host, Iscsi, Source};
use super::statuses::{ConnectionState, StatusHandle};
use super::survival::CONNECT_TIMEOUT;
use bootwright_base::{Failure, identity};
use bootwright_iscsi::chap::{SHORT_SECRET, new_challenge};
use bootwright_iscsi::login::Login;
use bootwright_iscsi::pdu::Isid;
use bootwright_iscsi::session::{Peer, PortalError, Session};
use bootwright_iscsi::target::{Auth, Credentials, Secret, check_name};
use bootwright_iscsi::{discovery, disk, ibft, initiator};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Limit for each answer during discovery.
const DISCOVERY_PATIENCE: Duration = Duration::from_secs(10);
/// Limit for the kernel to find the disks of a session and to attach their driver.
const DISK_PATIENCE: Duration = Duration::from_secs(15);
/// Connections need crc32c. The kernel asks modprobe for it, which is not there yet.
pub const MODULES: &[(&str, &str)] = &[("crc32c_generic", ""), ("iscsi_tcp", ""), ("sd_mod", "")];
/// Shows the firmware's boot table in sysfs.
pub const IBFT_MODULE: (&str, &str) = ("iscsi_ibft", "");
/// Folder in which it does so.
pub const IBFT: &str = "/sys/firmware/ibft";

/// Why a disk cannot be attached.
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

/// Completes a source with the entries of the firmware's boot table, if the source asks for that.
///
/// # Errors
/// When the table is missing or wrong.
pub fn complete(context: &RootContext, iscsi: &Iscsi) -> Result<Iscsi, Failure> {
    if !iscsi.firmware {
        return Ok(iscsi.clone());
    }
    context.node.load_modules(&[IBFT_MODULE])?;
    let found = ibft::read_target(Path::new(IBFT))?;
    if let (Some(mac), Some(bootif)) = (&found.mac, boot_mac(context))
        && *mac != bootif
    {
        context.note(&["the firmware reached its iscsi target by ", mac, ", and BOOTIF is ", &bootif].concat());
    }
    Ok(lay_under(iscsi, found)?)
}

/// Entries of the table count only where the source says nothing.
fn lay_under(asked: &Iscsi, found: ibft::FirmwareTarget) -> Result<Iscsi, ibft::IbftError> {
    let mut disk = asked.clone();
    (disk.host, disk.port) = (Host::Address(found.address), found.port);
    disk.target = disk.target.or(found.name);
    if disk.lun == 0 {
        disk.lun = found.lun?;
    }
    if disk.user.is_none() {
        (disk.user, disk.secret) = (found.user, found.secret);
    }
    if disk.user_in.is_none() {
        (disk.user_in, disk.secret_in) = (found.user_in, found.secret_in);
    }
    Ok(disk)
}

/// Logs in at the first of `portals` that works, and waits for the disk. [`MODULES`] must be loaded.
///
/// # Errors
/// Why no portal works, or why there is no disk.
pub fn attach(attach: &AttachContext, iscsi: &Iscsi, portals: &[SocketAddr]) -> Result<AttachedDevice, Failure> {
    let machine = machine_id(attach.context);
    let asked = attach.context.cmdline.value("bw.iscsi.initiator");
    let firmware = ibft::initiator(Path::new(IBFT));
    let initiator = initiator::choose_name(&[asked, iscsi.initiator.as_deref(), firmware.as_deref()], &machine)?;
    let auth = match &iscsi.credentials {
        Some(path) => credentials::load(Path::new(path))?,
        None => auth(iscsi)?,
    };
    warn_of_short_secrets(&attach.status, &auth);
    let lun = match iscsi.lun {
        0 => None,
        lun => Some(u16::try_from(lun).ok().filter(|l| *l < 1 << 14).ok_or(AttachError::Lun(lun))?),
    };
    let isid = initiator::next_isid(&machine);
    let (target, portals) = match &iscsi.target {
        Some(target) => (check_name(target)?, portals.to_vec()),
        None => attach.context.wait(|| find_target(portals, &initiator, isid, &auth))?,
    };
    let given_up = Arc::new(AtomicBool::new(false));
    let peer = Peer { initiator, isid, target, auth, old_chap: false, portals, connect_wait: CONNECT_TIMEOUT };
    let mut session = Session::create(peer, given_up.clone())?;
    let device = match attach.context.wait(|| log_in_and_find(&mut session, lun)) {
        Ok(device) => device,
        Err(error) => {
            // The error above is the one to report. A session that cannot be ended does no harm.
            let _ = session.destroy();
            return Err(error);
        }
    };
    let name = [&Source::Iscsi(iscsi.clone()).to_string(), " as ", &device.to_string_lossy()].concat();
    attach.status.set(ConnectionState::Up, &describe(&session, &device));
    let attachment = Box::new(attachment::keep(session, attach.status.clone(), given_up, name)?);
    Ok(AttachedDevice { device, attachment })
}

/// Logs in at the first portal that works, and waits for the disk.
fn log_in_and_find(session: &mut Session, lun: Option<u16>) -> Result<std::path::PathBuf, Failure> {
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
    let search = disk::DiskSearch {
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

/// The only target of the first portal that has one, with its portals.
fn find_target(
    portals: &[SocketAddr],
    initiator: &str,
    isid: Isid,
    auth: &Auth,
) -> Result<(String, Vec<SocketAddr>), Failure> {
    let mut outcome: Result<_, Failure> = Err(AttachError::NoPortal.into());
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

fn warn_of_short_secrets(status: &StatusHandle, auth: &Auth) {
    let short = |c: &&Credentials| c.secret.bytes().len() < SHORT_SECRET;
    if auth.ours.iter().chain(&auth.theirs).any(|c| short(&c)) {
        status.note("a CHAP secret is shorter than 12 bytes: it can be guessed from what is seen on the wire");
    }
}

/// An id of this machine: the MAC that it booted with, else its lowest MAC, else the machine id.
fn machine_id(context: &RootContext) -> String {
    boot_mac(context).unwrap_or_else(|| identity::first_mac_or_id(Path::new("/sys")))
}

/// The MAC in `BOOTIF=01-aa-bb-cc-dd-ee-ff`.
fn boot_mac(context: &RootContext) -> Option<String> {
    let value = context.cmdline.value("BOOTIF")?;
    let mac = if value.len() == 20 { &value[3..] } else { value };
    Some(mac.replace('-', ":").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::super::source::parse_source;
    use super::*;

    fn asked(text: &str) -> Iscsi {
        match parse_source(text) {
            Ok(Source::Iscsi(iscsi)) => iscsi,
            other => panic!("{other:?}"),
        }
    }

    fn found() -> ibft::FirmwareTarget {
        let text = |text: &str| Some(text.to_string());
        ibft::FirmwareTarget {
            address: "10.0.2.2".parse().expect("an address"),
            port: 3261,
            name: text("iqn.2024-07.x:firmware"),
            lun: Ok(1),
            user: text("node"),
            secret: text("secret of node"),
            user_in: None,
            secret_in: None,
            mac: None,
        }
    }

    #[test]
    fn the_firmwares_target_is_laid_under_what_was_asked_for() {
        let disk = lay_under(&asked("iscsi:ibft"), found()).expect("it is whole");
        assert_eq!((disk.host, disk.port), (Host::Address("10.0.2.2".parse().expect("an address")), 3261));
        assert_eq!((disk.target.as_deref(), disk.lun), (Some("iqn.2024-07.x:firmware"), 1));
        assert_eq!((disk.user.as_deref(), disk.secret.as_deref()), (Some("node"), Some("secret of node")));
        assert_eq!((disk.user_in, disk.secret_in), (None, None));
    }

    #[test]
    fn what_was_asked_for_comes_first() {
        let asked = asked("iscsi://me:mine@10.0.0.9/iqn.2024-07.x:asked/7");
        let bad = ibft::IbftError::Bad { key: "lun", value: "zz".into() };
        let disk =
            lay_under(&asked, ibft::FirmwareTarget { lun: Err(bad.clone()), ..found() }).expect("its LUN is not taken");
        assert_eq!((disk.target.as_deref(), disk.lun), (Some("iqn.2024-07.x:asked"), 7));
        assert_eq!((disk.user.as_deref(), disk.secret.as_deref()), (Some("me"), Some("mine")));
        let none = Iscsi { lun: 0, ..asked };
        assert_eq!(lay_under(&none, ibft::FirmwareTarget { lun: Err(bad.clone()), ..found() }), Err(bad));
    }
}
