//! What lies outside `out/`, or is not for machines.

use nix::libc;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::process::Command;
use testkit::serve::Serve;

#[test]
fn nothing_but_what_a_boot_needs_is_served() {
    let lab = crate::lab();
    let out = lab.path().join("out");
    for (path, text) in
        [(".lock", ""), ("worker/.build.json", "{}"), ("worker/smoke", ""), ("boot/chain.json", ""), ("top", "secret")]
    {
        let path = out.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    symlink("../../secret", out.join("worker/initrd.img")).unwrap();
    symlink(lab.path().join("secret"), out.join("worker/root.img")).unwrap();
    symlink("worker", out.join("stable")).unwrap();
    let serve = Serve::start(lab.path(), &[]);
    // The chain is written at the start.
    symlink("../../secret", out.join("boot/loader.efi")).unwrap();
    symlink("/proc/self/environ", out.join("boot/magic.efi")).unwrap();
    std::fs::write(out.join("boot/grubx64.efi"), "grub").unwrap();
    for path in [
        "/.lock",
        "/top",
        "/worker/.build.json",
        "/worker/smoke",
        "/worker/manifest.json",
        "/worker/root/secret",
        "/worker/root/run/secret",
        "/worker/root",
        "/worker/root/",
        "/worker/initrd.img",
        "/worker/root.img",
        "/boot/loader.efi",
        "/boot/magic.efi",
        "/boot/chain.json",
        "/boot/",
        "/boot",
        "/../secret",
        "/worker/../../secret",
        "//etc/passwd",
        "/worker/%2e%2e/%2e%2e/secret",
        "/worker/..%2f..%2fsecret",
        "/worker/%2ebuild.json",
        "/worker/vmlinuz%00",
        "/worker/vmlinuz/",
        "/worker/vmlinuz/x",
        "/worker%5cvmlinuz",
        "/%ff",
        "/secret",
    ] {
        for method in ["GET", "HEAD"] {
            let answer = serve.ask(&format!("{method} {path} HTTP/1.1"), "");
            assert!(answer.starts_with("HTTP/1.1 404") && !answer.contains("secret"), "{method} {path}: {answer}");
        }
    }
    for (path, text) in
        [("/worker/vmlinuz", "0123456789"), ("/stable/vmlinuz", "0123456789"), ("/boot/grubx64.efi", "grub")]
    {
        let answer = serve.ask(&format!("GET {path} HTTP/1.1"), "");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(text), "{path}: {answer}");
    }
    let log = serve.log();
    assert!(log.contains("warning: `worker/initrd.img` is not served: a link leads out of the folder"), "{log}");
}

/// A kernel before Linux 5.6, as a seccomp(2) filter plays it.
#[test]
fn without_openat2_nothing_is_served() {
    let lab = crate::lab();
    let mut command = Command::new(testkit::tool::tool_path());
    command.current_dir(lab.path()).args(["serve", "--listen", "127.0.0.1:0"]);
    // SAFETY: between fork and exec the closure makes two system calls, with data of its own.
    unsafe { command.pre_exec(|| forbid(libc::SYS_openat2 as u32)) };
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("cannot serve `out`") && said.contains("openat2") && said.contains("Linux has it since 5.6"),
        "{said}"
    );
}

/// From now on the system call does not exist (`ENOSYS`) for this process.
fn forbid(number: u32) -> std::io::Result<()> {
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let mut filter = [
        // The number is the first field of struct seccomp_data.
        statement((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0),
        libc::sock_filter { jf: 1, ..statement((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, number) },
        statement((libc::BPF_RET | libc::BPF_K) as u16, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        statement((libc::BPF_RET | libc::BPF_K) as u16, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the filter before prctl(2) returns.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    };
    if set { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
