//! Modes, owners, hard links and extended attributes on their way into an image: kept, or refused by name.

use crate::archives::project;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use testkit::http::PageServer;
use testkit::need::have;
use testkit::project::Project;

/// `cap_net_raw=ep` as the kernel stores it (linux/capability.h, `struct vfs_cap_data`, revision 2).
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A tar with a set-user-ID file of another user, a program with a capability, a second name of it, and one that nobody wants with
/// an ACL.
fn tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let header = |mode, owner| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner + 1);
        header.set_size(4);
        header
    };
    tar.append_data(&mut header(0o4755, 1000), "usr/bin/su", &b"prog"[..]).unwrap();
    tar.append_pax_extensions([("SCHILY.xattr.security.capability", &NET_RAW[..])]).unwrap();
    tar.append_data(&mut header(0o755, 0), "usr/bin/ping", &b"ping"[..]).unwrap();
    let mut link = header(0o755, 0);
    link.set_size(0);
    link.set_entry_type(tar::EntryType::Link);
    tar.append_link(&mut link, "usr/bin/ping4", "usr/bin/ping").unwrap();
    tar.append_pax_extensions([("SCHILY.acl.access", &b"user::rw-,user:7:r--,group::r--,mask::r--,other::r--"[..])])
        .unwrap();
    tar.append_data(&mut header(0o644, 0), "opt/acl", &b"acl\n"[..]).unwrap();
    tar.into_inner().unwrap()
}

/// A project with this tar, of which everything is wanted but what is excluded.
fn with_tar(server: &PageServer, root: &str, exclude: &str) -> Project {
    let project = project(server, &tar());
    project.edit("image = \"cpio\"", root);
    project.add(&format!("exclude = [{exclude}]\n"));
    project
}

/// The files of a packed root, as unsquashfs(1) lays them out.
fn unsquash(project: &Project, to: &Path) {
    // The image starts at a multiple of 4 in the root's archive.
    let packed = std::fs::read(project.path("out/tiny/segments/root.cpio")).unwrap();
    let at = packed.chunks(4).position(|word| word == b"hsqs").expect("a squashfs is in it") * 4;
    std::fs::write(project.path("root.img"), &packed[at..]).unwrap();
    output(Command::new("unsquashfs").arg("-d").arg(to).arg(project.path("root.img")));
}

#[test]
fn a_squashfs_keeps_modes_owners_links_and_capabilities_of_a_tar() {
    if !have(&["mksquashfs", "unsquashfs", "getcap"]) {
        return;
    }
    let server = PageServer::start();
    let project = with_tar(&server, "image = \"squashfs\"", "\"opt/acl\"");
    project.build(&[]).succeeds();
    unsquash(&project, &project.path("files"));
    let listed = output(Command::new("unsquashfs").arg("-lln").arg(project.path("root.img")));
    let line = |name: &str| listed.lines().find(|line| line.ends_with(name)).unwrap_or_else(|| panic!("{listed}"));
    assert!(line("usr/bin/su").starts_with("-rwsr-xr-x 1000/1001"), "{listed}");
    let at = |name: &str| project.path("files/usr/bin").join(name);
    assert_eq!(at("ping").metadata().unwrap().ino(), at("ping4").metadata().unwrap().ino());
    if nix::unistd::geteuid().is_root() {
        let caps = output(Command::new("getcap").args([at("ping"), at("su")]));
        assert!(caps.contains("ping cap_net_raw=ep") && !caps.contains("su"), "{caps}");
    }
    let record = project.read("out/tiny/manifest.json");
    assert!(record.contains(&hex::encode(NET_RAW)), "{record}");
}

#[test]
fn what_cannot_hold_an_attribute_refuses_it_by_name() {
    let server = PageServer::start();
    let acl = "`opt/acl` of `archive` (recipes/tiny.toml:20) has the extended attribute `system.posix_acl_access`";
    let capability =
        "`usr/bin/ping` of `archive` (recipes/tiny.toml:20) has the extended attribute `security.capability`";
    for (root, exclude, said) in [
        ("image = \"cpio\"", "\"opt/acl\"", capability),
        ("image = \"cpio\"", "", acl),
        ("image = \"squashfs\"", "", acl),
        ("image = \"erofs\"", "\"opt/acl\", \"usr/bin/su\"", capability),
        ("mode = \"nfs\"", "\"opt/acl\"", capability),
    ] {
        if !have(&["mksquashfs", "mkfs.erofs"]) {
            return;
        }
        let project = with_tar(&server, root, exclude);
        project.build(&[]).fails(2, &[said, "cannot hold"]);
    }
    // The first of its names holds it as well.
    let project = with_tar(&server, "image = \"cpio\"", "");
    project.add("paths = [\"usr/bin/ping4\"]\n");
    project.build(&[]).fails(
        2,
        &["`usr/bin/ping4` of `archive` (recipes/tiny.toml:20) has the extended attribute `security.capability`"],
    );
    with_tar(&server, "image = \"cpio\"", "\"opt/acl\", \"usr/bin/ping*\"").build(&[]).succeeds();
}

fn chmod(project: &Project, path: &str, mode: u32) {
    std::fs::set_permissions(project.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn modes_of_local_files_are_the_recipes_or_refused() {
    let project = Project::new();
    project.good_build();
    chmod(&project, "overlay/etc/tiny.conf", 0o600);
    let help = "modes = { \"etc/tiny.conf\" = \"0600\" }";
    project
        .build(&[])
        .fails(2, &["recipes/tiny.toml:15: `", "/etc/tiny.conf`: on this disk its permissions are 0600", help]);
    project.edit("dir = \"../overlay\"", "dir = \"../overlay\"\nmodes = { \"etc/tiny.conf\" = \"0600 3:4\" }");
    project.build(&[]).succeeds();
    chmod(&project, "tool/run", 0o4755);
    project
        .build(&[])
        .fails(3, &["tool/run`: on this disk its permissions are 4755", "modes = { \"run\" = \"4755\" }"]);
    project.edit("to = \"opt/tool\"", "to = \"opt/tool\", modes = { run = \"4755\" }");
    project.build(&[]).succeeds();
    let files = project.run(&["inspect", "out/tiny", "--files", "--json"]).succeeds().json();
    let file = |path: &str| files["files"].as_array().unwrap().iter().find(|f| f["path"] == path).unwrap().clone();
    assert_eq!((&file("etc/tiny.conf")["mode"], &file("etc/tiny.conf")["gid"]), (&"0600".into(), &4.into()));
    assert_eq!(file("opt/tool/run")["mode"], "4755");
    for (bad, said) in [("\"0999\"", "`0999` is not octal permissions"), ("\"0755 root\"", "`0755 root` is not octal")]
    {
        let other = Project::new();
        other.edit("dir = \"../overlay\"", &format!("dir = \"../overlay\"\nmodes = {{ \"etc/tiny.conf\" = {bad} }}"));
        other.build(&[]).fails(2, &[said, "[recipes/tiny.toml:"]);
    }
}

/// A checkout under another umask is closed as a whole: it builds the same image.
#[test]
fn the_umask_of_a_checkout_does_not_count() {
    let expected = Project::new().good_build();
    let project = Project::new();
    for entry in
        walkdir::WalkDir::new(project.path("overlay")).into_iter().chain(walkdir::WalkDir::new(project.path("tool")))
    {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o700;
        std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    project.good_build().is_like(&expected);
}

#[test]
fn a_capability_on_this_disk_is_refused() {
    if !nix::unistd::geteuid().is_root() || !have(&["setcap"]) {
        return;
    }
    let project = Project::new();
    project.write_program("overlay/usr/bin/ping", "ping");
    let status = Command::new("setcap").arg("cap_net_raw+ep").arg(project.path("overlay/usr/bin/ping")).status();
    assert!(status.unwrap().success());
    project.build(&[]).fails(2, &["usr/bin/ping`: it has a file capability", "setcap -r"]);
    std::os::unix::fs::chown(project.path("overlay/etc/tiny.conf"), Some(7), None).unwrap();
    assert!(Command::new("setcap").arg("-r").arg(project.path("overlay/usr/bin/ping")).status().unwrap().success());
    project.build(&[]).fails(2, &["etc/tiny.conf`: on this disk it belongs to 7:0", "\"0644 7:0\""]);
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
