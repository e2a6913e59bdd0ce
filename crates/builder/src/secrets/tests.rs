//! Samples of each form, and what looks like them and is none.

use super::*;

const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF\n-----END PRIVATE KEY-----\n";
const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJlLW9mLWEtdGVzdA";

fn own(text: &str) -> Vec<String> {
    in_file("etc/x", text.as_bytes(), Author::Own).iter().map(ToString::to_string).collect()
}

fn others(text: &str) -> Vec<String> {
    in_file("usr/lib/x", text.as_bytes(), Author::Others).iter().map(ToString::to_string).collect()
}

#[test]
fn forms_that_are_secrets_wherever_they_stand() {
    let hash = "root:$6$saltsalt$abcdefghijklmnopqrstuvwxyz0123456789:19000:0:99999:7:::\n";
    let wrapped = BASE64_OF_A_KEY;
    for (text, what) in [
        (format!("# a key\n{PEM}"), "line 2: a private key"),
        (format!("data: |\n  {}", PEM.replace('\n', "\n  ")), "line 2: a private key"),
        (
            format!("{{\"type\": \"service_account\", \"private_key\": \"{}\"}}", PEM.replace('\n', "\\n")),
            "line 1: a private key",
        ),
        (PEM.replace("PRIVATE", "ENCRYPTED PRIVATE"), "line 1: a private key"),
        (
            PEM.replace(
                "PRIVATE KEY-----\nM",
                "RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nM",
            ),
            "line 1: a private key",
        ),
        (PEM.replace(" PRIVATE KEY", " OPENSSH PRIVATE KEY"), "line 1: a private key"),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 2\n\nlQOYBFabcdefghijklmnop".into(), "line 1: a private key"),
        (format!("users:\n- user:\n    client-key-data: {wrapped}\n"), "line 3: a private key"),
        ("PuTTY-User-Key-File-3: ssh-ed25519".into(), "line 1: a private key"),
        ("[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n".into(), "line 2: a private key"),
        (format!("token: {JWT}"), "line 1: a token"),
        ("K10".to_string() + &"a1".repeat(32) + "::server:abc", "line 1: a cluster's token"),
        ("x ghp_".to_string() + &"a".repeat(36), "line 1: a token of a service"),
        ("aws_secret_access_key = abcdefghijklmnopqrstuvwxyz0123456789ABCD".into(), "line 1: a cloud's secret key"),
        ("{\"auths\": {\"r.lan\": {\"auth\": \"dXNlcjpwYXNz\"}}}".into(), "line 1: a registry's password"),
        ("machine r.lan\nlogin me\npassword hunter22\n".into(), "line 1: a password"),
        (hash.into(), "line 1: a password's hash"),
    ] {
        assert_eq!(others(&text), [what], "{text}");
        assert!(own(&text).contains(&what.to_string()), "{text}: {:?}", own(&text));
    }
}

/// `-----BEGIN EC PRIVATE KEY-----` and more, in base64.
const BASE64_OF_A_KEY: &str = "LS0tLS1CRUdJTiBFQyBQUklWQVRFIEtFWS0tLS0tCk1IY0NBUUVFSUdFbi94S3J1";

#[test]
fn what_is_written_by_hand_is_judged_by_its_keys_too() {
    for (text, lines) in [
        ("apiVersion: v1\ntoken: 07401b.f395accd246ae52d\n", &["line 2: a bootstrap token"][..]),
        ("tlsBootstrapToken: abcdef.0123456789abcdef", &["line 1: a bootstrap token"]),
        (
            "user=node7\nsecret=at least twelve bytes\nuser_in=san\nsecret_in=at least twelve others\n",
            &["line 2: a password or token", "line 4: a password or token"],
        ),
        ("[auth]\npassword = \"hunter22\"\n", &["line 2: a password or token"]),
        ("{\"user\": \"x\", \"dbPassword\": \"hunter22\"}", &["line 1: a password or token"]),
        ("export REGISTRY_PASSWORD='hunter22'", &["line 1: a password or token"]),
        (
            "DB_PASS=hunter22\ndbPass: hunter22\nsmtp.pwd = hunter22",
            &["line 1: a password or token", "line 2: a password or token", "line 3: a password or token"],
        ),
        (
            "network={\n  psk=\"hunter22\"\n  wpa_passphrase=hunter22\n",
            &["line 2: a password or token", "line 3: a password or token"],
        ),
        (
            "password = LabRackPassword\ntoken: my-lab-token",
            &["line 1: a password or token", "line 2: a password or token"],
        ),
        ("env = { API_TOKEN = \"hunter22\", N = 3 }", &["line 1: a password or token"]),
        ("header: \"Authorization: Bearer 9f8e7d6c5b4a39281706\"", &["line 1: a token"]),
        ("[host.\"https://r.lab\".header]\nAuthorization = \"Basic bGFiOmh1bnRlcjIy\"\n", &["line 2: a login"]),
        ("server = \"https://me:hunter22@registry.lan\"", &["line 1: a password in an address"]),
        ("source = iscsi://10.0.0.1/iqn.x?user_in=a&secret_in=b%20c", &["line 1: a password in an address"]),
    ] {
        assert_eq!(own(text), lines, "{text}");
    }
}

#[test]
fn what_only_looks_like_a_secret_passes() {
    for text in [
        "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUabcdefghijklmnop\n-----END CERTIFICATE-----\n",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAabcdefghijklmnopqrstuv\n",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9m ops@lab",
        "grep -q 'BEGIN PRIVATE KEY-----' \"$1\"",
        "paste it here:\n-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----\n",
        "certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJzekNDQVZtZ0F3SUJBZ0lV",
        "token: \"\"\ntokenFile: /var/run/token\ntoken: /run/token\nautomountServiceAccountToken: false\n",
        "password: ${PASSWORD}\npassword: <your password>\nsecret: xxxxxxxx\n# password: hunter22\n",
        "password = os.environ[\"PASSWORD\"]\nself.password = password\ntoken=$(cat /run/token)\n",
        "imagePullSecrets: [{name: lab}]\nsecretName: lab\nsecret:\n  secretName: lab\n",
        "http://user@host/ https://USER:PASSWORD@host/ https://host:8080/a@b ssh://git@host:22/x",
        "server: https://host:6443\nimage: registry.k8s.io/pause:3.10\nimage: r.lan/a:b@sha256:00\n",
        "machine: x86\nlogin: no\npassword: no\n",
        "bypass = always\ncompass: north\nPWD=/root\nproxy_pass http://backend;\nAuthorization: Bearer <your token>\n",
        "WWW-Authenticate: Basic realm\nAuthorization: Basic credentials\nAuthorization: Basic <base64>\n",
    ] {
        assert_eq!(own(text), [""; 0], "{text}");
        assert_eq!(others(text), [""; 0], "{text}");
    }
    let of_others = "token: abcdef.0123456789abcdef\npassword = \"example\"\nhttp://user:pass@host/\n";
    assert_eq!(others(of_others), [""; 0]);
    assert!(in_file("usr/share/doc/ssl/example.pem", PEM.as_bytes(), Author::Others).is_empty());
    assert!(in_file("etc/nsswitch.conf", b"passwd: files systemd\n", Author::Own).is_empty());
    assert!(in_file("usr/bin/x", &[b"\x7fELF", PEM.as_bytes()].concat(), Author::Others).is_empty());
}

#[test]
fn texts_in_utf_16_are_read() {
    for unit in [u16::to_le_bytes, u16::to_be_bytes] {
        let text: Vec<u8> = format!("\u{feff}# a key\r\n{PEM}").encode_utf16().flat_map(unit).collect();
        let found: Vec<String> = in_file("etc/x", &text, Author::Others).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["line 2: a private key"]);
        assert!(in_file("etc/x", &text[..3], Author::Own).is_empty());
    }
}

#[test]
fn keys_that_are_no_text() {
    let sequence = |body: &[u8]| [&[0x30, body.len() as u8][..], body].concat();
    let algorithm = b"\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    let ed25519 = sequence(&[&[2, 1, 0][..], algorithm, &[7; 32]].concat());
    let pkcs12 =
        sequence(&[&[2, 1, 3, 0x30, 0x40][..], b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01", &[7; 30]].concat());
    let certificate = sequence(&[&[0x30, 0x20, 0xa0, 3, 2, 1, 2][..], &[7; 27]].concat());
    let public = sequence(&[&b"\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"[..], &[7; 32]].concat());
    let dropbear = [&b"\0\0\0\x0bssh-ed25519\0\0\0\x40"[..], &[7; 64]].concat();
    let find = |path: &str, bytes: &[u8]| in_file(path, bytes, Author::Others).first().map(|secret| secret.what);
    assert_eq!(find("etc/key.der", &ed25519), Some("a private key"));
    assert_eq!(find("etc/lab.p12", &pkcs12), Some("a keystore (PKCS#12)"));
    assert_eq!(find("usr/lib/jvm/lib/security/cacerts", &pkcs12), None);
    assert_eq!(find("etc/dropbear/dropbear_ed25519_host_key", &dropbear), Some("a private key"));
    assert_eq!(find("etc/ca.der", &certificate), None);
    assert_eq!(find("etc/public.der", &public), None);
}

#[test]
fn words_of_command_lines() {
    let found = |words: &[&str]| secret_words(words.iter().copied()).iter().map(|word| word.at).collect::<Vec<_>>();
    assert_eq!(found(&["/usr/bin/x", "--token", "abc123", "--node-ip=${ip}"]), [2]);
    assert_eq!(found(&["x", "--password=hunter22"]), [1]);
    assert_eq!(found(&["x", "rd.iscsi.password=hunter22", "bw.root=iscsi://u:s@h/iqn"]), [1, 2]);
    assert_eq!(found(&["netroot=iscsi:u:hunter22@10.0.0.1::::iqn.x"]), [0]);
    assert_eq!(
        found(&["x", "--token-file", "/run/token", "--token", "${token}", "--bootstrap-kubeconfig=/etc/x"]),
        [0; 0]
    );
    assert_eq!(found(&["--anonymous-auth=false", "--password", "--verbose", "panic=30"]), [0; 0]);
}
