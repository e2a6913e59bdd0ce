//! Manifests as add-ons write them, and such as nobody should.

use super::*;
use crate::profiles::NeedKind;

fn parse(text: &str) -> Result<Manifest, ManifestError> {
    parse_manifest(Path::new("m.yaml"), text)
}

fn needs(text: &str) -> Vec<(NeedKind, String)> {
    let found = parse(text).unwrap_or_else(|e| panic!("{e}"));
    found.needs.into_iter().filter(|need| need.source == "m.yaml").map(|need| (need.kind, need.name)).collect()
}

/// A pod with one container; `spec` and `container` are more lines of theirs.
fn pod(spec: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: p }}\nspec:\n{spec}  containers:\n  - name: c\n    image: own.example/c\n{container}"
    )
}

#[test]
fn a_pod_tells_what_it_needs_of_its_node() {
    let volume = |path: &str, kind: &str| {
        format!("  volumes:\n  - name: v\n    hostPath: {{ path: {path}, type: \"{kind}\" }}\n")
    };
    let owned = |kind, name: &str| (kind, name.to_string());
    for (spec, container, expected) in [
        (volume("/run/udev", "Directory"), "", vec![owned(NeedKind::Path, "/run/udev")]),
        (volume("/run/x", "DirectoryOrCreate"), "", vec![]),
        (volume("/dev/net/tun", "CharDevice"), "", vec![owned(NeedKind::Module, "tun")]),
        (
            volume("/sys/fs/bpf", ""),
            "    volumeMounts:\n    - { name: v, mountPath: /b, mountPropagation: Bidirectional }\n",
            vec![owned(NeedKind::Mount, "/sys/fs/bpf"), owned(NeedKind::Shared, "/sys/fs/bpf")],
        ),
        (
            "  hostUsers: false\n".into(),
            "",
            vec![owned(NeedKind::Option, "USER_NS"), owned(NeedKind::Mount, "/var/lib/kubelet")],
        ),
        (
            "  securityContext:\n    sysctls:\n    - { name: net.core.somaxconn, value: \"1\" }\n    - { name: net.ipv4.tcp_syncookies, value: \"1\" }\n".into(),
            "",
            vec![owned(NeedKind::Other, "sysctl `net.core.somaxconn`")],
        ),
        (
            String::new(),
            "    securityContext: { privileged: true, appArmorProfile: { type: RuntimeDefault }, seccompProfile: { type: RuntimeDefault } }\n",
            vec![
                owned(NeedKind::Program, "/sbin/apparmor_parser"),
                owned(NeedKind::Option, "SECURITY_APPARMOR"),
                owned(NeedKind::Option, "SECCOMP_FILTER"),
            ],
        ),
        (
            String::new(),
            "    ports:\n    - { containerPort: 80, hostPort: 8080 }\n",
            vec![owned(NeedKind::Path, "/opt/cni/bin/portmap"), owned(NeedKind::Program, "nft|iptables")],
        ),
        ("  hostNetwork: true\n".into(), "    ports:\n    - { containerPort: 80, hostPort: 80 }\n", vec![]),
        (
            "  initContainers:\n  - { name: i, image: x, command: [sh, -c, \"modprobe nbd\"] }\n".into(),
            "",
            vec![owned(NeedKind::Module, "nbd")],
        ),
        ("  runtimeClassName: gvisor\n".into(), "", vec![owned(NeedKind::Other, "RuntimeClass `gvisor`")]),
        (
            "  volumes:\n  - { name: n, nfs: { server: s, path: / } }\n".into(),
            "",
            vec![owned(NeedKind::Module, "nfsv4")],
        ),
    ] {
        assert_eq!(needs(&pod(&spec, container)), expected, "{spec}{container}");
    }
    let annotated = pod("", "").replace(
        "metadata: { name: p }",
        "metadata: { name: p, annotations: { container.apparmor.security.beta.kubernetes.io/c: runtime/default } }",
    );
    assert_eq!(needs(&annotated)[0], owned(NeedKind::Program, "/sbin/apparmor_parser"));
}

#[test]
fn pods_are_found_in_workloads_lists_and_other_kinds_and_left_out_where_they_run_elsewhere() {
    let spec = "spec: { containers: [ { name: c, image: x, command: [modprobe, nbd] } ] }";
    let object = |kind: &str, version: &str, rest: &str| {
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{ name: o }}\n{rest}\n")
    };
    let template = format!("spec: {{ template: {{ {spec} }} }}");
    let cron = format!("spec: {{ jobTemplate: {{ spec: {{ template: {{ {spec} }} }} }} }}");
    let module = vec![(NeedKind::Module, "nbd".to_string())];
    for (text, expected) in [
        (object("DaemonSet", "apps/v1", &template), module.clone()),
        (object("CronJob", "batch/v1", &cron), module.clone()),
        (object("ConfigMap", "v1", "data: { a: \"{{ x }}\", run: \"#!/bin/sh\\nmodprobe nbd\\n\" }"), module.clone()),
        (
            format!("---\n---\n{}---\n{}", object("Service", "v1", ""), object("Job", "batch/v1", &template)),
            module.clone(),
        ),
        (format!("apiVersion: v1\nkind: List\nitems:\n- {{ apiVersion: v1, kind: Pod, {spec} }}\n"), module.clone()),
        (
            r#"{"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"image": "x", "command": ["modprobe", "nbd"]}]}}"#.into(),
            module.clone(),
        ),
        (object("CustomResourceDefinition", "apiextensions.k8s.io/v1", "spec: { group: x }"), vec![]),
        (object("ServiceMonitor", "monitoring.coreos.com/v1", "spec: {}"), vec![]),
        (object("Installation", "operator.tigera.io/v1", "spec: {}"), vec![(NeedKind::Other, "Installation `o`".into())]),
        (object("DaemonSet", "apps/v1", &template.replace("spec: { c", "spec: { os: { name: windows }, c")), vec![]),
        (
            object(
                "DaemonSet",
                "apps/v1",
                &template.replace("spec: { c", "spec: { nodeSelector: { kubernetes.io/arch: arm64 }, c"),
            ),
            vec![],
        ),
    ] {
        assert_eq!(needs(&text), expected, "{text}");
    }
    let notes = parse(&object("Service", "v1", "")).unwrap().notes;
    assert_eq!(notes, ["it has no pods for this image's nodes"]);
}

#[test]
fn an_image_that_is_known_asks_for_what_its_profile_does() {
    let found = parse(&pod("", "").replace("own.example/c", "quay.io/cilium/cilium:v1.19.0")).unwrap();
    let profile = profile_needs("cilium");
    assert!(profile.iter().all(|need| found.needs.contains(need)) && !profile.is_empty());
    assert!(found.notes[0].contains("profile `cilium`"), "{:?}", found.notes);
}

fn profile_needs(name: &str) -> Vec<Need> {
    crate::profiles::find(name).unwrap().needs.clone()
}

#[test]
fn what_is_no_manifest_is_an_error_and_never_fits() {
    let bomb = (1..40).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string(), |text, i| {
        let before = vec![format!("*a{}", i - 1); 10].join(", ");
        format!("{text}a{i}: &a{i} [{before}]\n")
    });
    let deep = format!("a: {}{}", "[".repeat(5000), "]".repeat(5000));
    let pods = |line: &str| pod(line, "");
    for (text, said) in [
        (String::new(), "`m.yaml` holds no Kubernetes object"),
        ("# nothing\n---\n".into(), "`m.yaml` holds no Kubernetes object"),
        ("just text".into(), "document 1 is no Kubernetes object"),
        ("- a\n- b\n".into(), "document 1 is no Kubernetes object"),
        ("kind: Pod\n".into(), "document 1 is no Kubernetes object"),
        ("kind: Pod\nspec: [\n".into(), "`m.yaml` is no YAML"),
        ("\u{0}\u{1}\u{2}".into(), "`m.yaml` is no YAML"),
        (bomb, "`m.yaml` is no YAML"),
        (deep, "`m.yaml` is no YAML"),
        ("kind: {{ .Values.kind }}\nspec:\n  {{- toYaml . }}\n".into(), "`m.yaml` is no YAML"),
        (
            pods("").replace("own.example/c", "\"{{ .Values.image }}\""),
            "`image` is a template that nobody has filled in",
        ),
        (pods("  volumes: { a: b }\n"), "Pod `p`: `volumes` is no list"),
        (pods("  volumes:\n  - hostPath: {}\n"), "it has no `path` of a `hostPath`"),
        (pods("  volumes:\n  - hostPath: { path: 7 }\n"), "`path` is no string"),
        (pods("  hostUsers: \"no\"\n"), "`hostUsers` is no boolean"),
        (pods("").replace("    image: own.example/c\n", ""), "it has no `image` in a container"),
        ("apiVersion: apps/v1\nkind: DaemonSet\nspec: {}\n".into(), "it has no containers of its pods"),
        ("apiVersion: v1\nkind: Pod\nspec: { containers: {} }\n".into(), "`containers` is no list"),
        (pods("").replacen("kind: Pod\n", "kind: Pod\nkind: Service\n", 1), "`m.yaml` is no YAML"),
    ] {
        let start: String = text.chars().take(60).collect();
        let error = parse(&text).map(|_| ()).expect_err(&start);
        assert!(error.to_string().contains(said), "{start:?}: {error}");
        let help = error.help();
        let templated = text.contains("{{ .Values");
        assert_eq!(help.contains("helm template"), templated, "{start:?}: {help}");
    }
}

#[test]
fn a_release_with_many_definitions_is_read() {
    let one = "---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: { name: x }\nspec:\n  versions:\n";
    let field =
        "  - { name: v1, schema: { type: object, properties: { a: { type: string }, b: { type: integer } } } }\n";
    let text = format!("{}---\n{}", (one.to_string() + &field.repeat(100)).repeat(300), pod("", ""));
    assert!(text.len() > 2 << 20);
    assert_eq!(needs(&format!("{text}\n")), []);
}
