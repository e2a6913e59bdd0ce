//! Secrets in what becomes an image: refused by file and line unless the recipe allows them, and told of when it does.

use crate::archives::project;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use testkit::http::PageServer;
use testkit::project::Project;

/// An Ed25519 key that nobody has, as `openssl genpkey` writes one.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF\n-----END PRIVATE KEY-----\n";
const KUBECONFIG: &str =
    "apiVersion: v1\nkind: Config\nusers:\n- name: lab\n  user:\n    token: 07401b.f395accd246ae52d\n";
const ALLOW: &str = "secrets = \"allowed\"\nsecrets_reason = \"a lab behind a door\"\n";

#[test]
fn files_with_secrets_are_refused_by_file_line_and_component() {
    let project = Project::new();
    project.write("overlay/etc/kubernetes/bootstrap.kubeconfig", KUBECONFIG);
    project.write("tool/ssl/tls.key", format!("# of the lab\n{KEY}"));
    project.write("overlay/etc/ssl/ca.crt", "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUabcdefghijklmnop\n");
    let run = project.build(&[]);
    run.fails(
        2,
        &[
            "`etc/kubernetes/bootstrap.kubeconfig` line 6: a bootstrap token, in `overlay:overlay` (recipes/tiny.toml:15)",
            "`opt/tool/ssl/tls.key` line 2: a private key, in `tool` (recipes/tiny.toml:12)",
            "secrets = \"allowed\"",
        ],
    );
    assert!(!run.err.contains("ca.crt") && !project.path("out/tiny").exists(), "{}", run.err);
    project.edit("dir = \"../overlay\"\n", &format!("dir = \"../overlay\"\n{ALLOW}"));
    let run = project.build(&[]);
    run.fails(2, &["tls.key"]);
    assert!(!run.err.contains("bootstrap.kubeconfig"), "{}", run.err);
    project.edit("name = \"tool\"\n", &format!("name = \"tool\"\n{ALLOW}"));
    let run = project.build(&[]);
    let said = "secrets are allowed in overlay `overlay` (recipes/tiny.toml:17): a lab behind a door; \
        found etc/kubernetes/bootstrap.kubeconfig line 6: a bootstrap token";
    run.succeeds().says(&[said, "in component `tool`", "opt/tool/ssl/tls.key line 2: a private key"]);
    project.build(&[]).succeeds().says(&["nothing changed", said]);
    let manifest: serde_json::Value = serde_json::from_str(&project.read("out/tiny/manifest.json")).unwrap();
    assert_eq!(manifest["secrets"][0]["reason"], "a lab behind a door");
    assert_eq!(manifest["secrets"].as_array().unwrap().len(), 2);
    assert!(!project.read("out/tiny/manifest.json").contains("07401b"));
}

#[test]
fn what_holds_secrets_is_closed_to_other_users() {
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let project = Project::new();
    project.good_build();
    assert_eq!(mode(project.path("out/tiny")), 0o755);
    project.write("overlay/etc/tls.key", KEY);
    project.edit("dir = \"../overlay\"\n", &format!("dir = \"../overlay\"\n{ALLOW}"));
    project.build(&[]).succeeds();
    assert_eq!(mode(project.path("out/tiny")), 0o750);
    let open: Vec<_> = walkdir::WalkDir::new(project.path("cache/derived/segments"))
        .max_depth(1)
        .into_iter()
        .flatten()
        .filter(|e| e.depth() == 1 && holds_the_key(e.path()))
        .filter(|e| mode(e.path().to_path_buf()) & 0o007 != 0)
        .collect();
    assert!(open.is_empty(), "{open:?}");
    std::fs::remove_file(project.path("overlay/etc/tls.key")).unwrap();
    project.edit(ALLOW, "");
    project.build(&[]).succeeds();
    assert_eq!(mode(project.path("out/tiny")), 0o755);
}

/// By what zstd(1) and cpio unpack from the packed segment.
fn holds_the_key(dir: &std::path::Path) -> bool {
    let Ok(found) = std::fs::read_dir(dir) else { return false };
    found.flatten().any(|entry| {
        let output = Command::new("zstd").args(["-dcf"]).arg(entry.path()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("BEGIN PRIVATE KEY")
    })
}

#[test]
fn values_of_a_recipe_are_refused_where_they_stand() {
    let service = "[[service]]\nname = \"agent\"\nexec = [\"/opt/tool/run\", \"--token\", \"hunter22\"]\n\
        [[file]]\npath = \"/opt/tool/run\"\nmode = \"0755\"\ncontent = \"#!/proc/self/exe\"\n";
    let file = "[[file]]\npath = \"/etc/san\"\nmode = \"0600\"\ncontent = \"\"\"\nuser=node7\nsecret=at least twelve bytes\n\"\"\"\n";
    let with_variable =
        "[vars]\nkey = { type = \"text\", default = \"none\" }\n[[file]]\npath = \"/etc/key\"\ncontent = \"${key}\"\n";
    for (added, set, place, said) in [
        (service, "", "[recipes/tiny.toml:22:37]", "a password or token in service `agent`"),
        (file, "", "[recipes/tiny.toml:25:1]", "a password or token in file `/etc/san`"),
        (
            "[report]\nurl = \"http://me:hunter22@h/report\"\n",
            "",
            "[recipes/tiny.toml:21:7]",
            "a password in an address in `[report]`",
        ),
        (with_variable, KEY, "[recipes/tiny.toml:24:11]", "a private key in file `/etc/key`"),
    ] {
        let project = Project::new();
        project.add(added);
        let set = format!("key={set}");
        let more: &[&str] = if added == with_variable { &["--set", &set] } else { &[] };
        let refused = project.build(more);
        refused.fails(2, &[place, said, "whoever can fetch the image can read it", "secrets_reason"]);
        let quoted =
            ["hunter22", "at least twelve bytes", "MC4CAQ"].into_iter().find(|secret| refused.err.contains(secret));
        assert_eq!(quoted, None, "a refusal ends in the log of a build: {}", refused.err);
        assert!(!project.path("out").exists());
        // A reason is needed, and enough.
        let first = ["name = \"agent\"", "path = \"/etc/san\"", "url = ", "path = \"/etc/key\""];
        let first = first.into_iter().find(|first| added.contains(first)).unwrap();
        project.edit(first, &format!("secrets = \"allowed\"\n{first}"));
        project.build(more).fails(2, &["missing key `secrets_reason`"]);
        project.edit("secrets = \"allowed\"\n", ALLOW);
        project.build(more).succeeds().says(&["secrets are allowed in", "a lab behind a door"]);
    }
}

#[test]
fn what_others_published_is_judged_by_forms_that_nothing_else_has() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, text: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, path, text.as_bytes()).unwrap();
    };
    add("usr/share/doc/tool/key.pem", KEY);
    add("etc/tool.conf", "token: abcdef.0123456789abcdef\npassword = example\n");
    add("opt/app/tls.key", KEY);
    let tar = tar.into_inner().unwrap();
    let server = PageServer::start();
    let project = project(&server, &tar);
    let run = project.build(&[]);
    run.fails(2, &["`opt/app/tls.key` line 1: a private key, in `archive` (recipes/tiny.toml:20)"]);
    assert!(!run.err.contains("usr/share") && !run.err.contains("tool.conf"), "{}", run.err);
    project.add("exclude = [\"opt/app\"]\n");
    project.build(&[]).succeeds();
}

/// What is wrong beside a secret is told; the secret is not.
#[test]
fn no_problem_shows_a_secret_that_stands_beside_it() {
    // Without its end, the last line of the key stands right above the mistake.
    let (pem, _) = KEY.split_once("\n-----END").expect("a key has an end");
    for added in [
        format!("[[file]]\npath = \"/etc/key\"\ncontent = \"\"\"\n{pem}\"\"\"\nmod = \"0600\"\n"),
        "[[service]]\nname = \"a\"\nexec = [\"/bin/a\"]\nenv = { API_TOKEN = \"hunter22\", N = 3 }\n".into(),
        "[[service]]\nname = \"a\"\nexec = [\"/bin/a\"]\nnope = \"password=hunter22\"\n".into(),
        "[[file]]\npath = \"/etc/x\"\nmode = \"password=hunter22\"\ncontent = \"\"\n".into(),
    ] {
        let project = Project::new();
        project.add(&added);
        let refused = project.build(&[]);
        refused.fails(2, &["recipes/tiny.toml:2"]);
        let key_line = pem.lines().nth(1).expect("a key has lines");
        let quoted = ["hunter22", key_line].into_iter().find(|secret| refused.err.contains(secret));
        assert_eq!(quoted, None, "{}", refused.err);
    }
}
