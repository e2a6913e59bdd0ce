use super::*;

#[test]
fn images_of_containers_lie_beside_the_root() {
    for (root, images) in [
        ("http://10.0.0.1/worker-http/root.img?a=/b", "http://10.0.0.1/worker-http/images.img?a=/b"),
        ("https://h/root.img", "https://h/images.img"),
        ("nbd://h/worker", "nbd://h/worker-images"),
        ("iscsi://h/iqn.2024-07.x:y", "iscsi://h/iqn.2024-07.x:y/2"),
        ("iscsi://h/iqn.2024-07.x:y/1", "iscsi://h/iqn.2024-07.x:y/2"),
        ("iscsi://h/iqn.2024-07.x:y/7", "iscsi://h/iqn.2024-07.x:y/8"),
        ("nfs://h/srv/root", "nfs://h/srv/root"),
        ("ram", "ram"),
    ] {
        assert_eq!(parse_source(root).map(|root| root.of_images()), parse_source(images), "{root}");
    }
}
use bootwright_base::cmdline::parse_cmdline;
use bootwright_contract::RootMode;
use proptest::prelude::*;

fn v4(text: &str) -> Host {
    Host::Address(text.parse().expect("an address"))
}

fn nbd(host: Host, port: u16, export: &str) -> Source {
    Source::Nbd(Nbd { host, port, export: export.into() })
}

fn nfs(host: Host, path: &str, options: &[&str]) -> Source {
    Source::Nfs(Nfs { host, port: None, path: path.into(), options: options.iter().map(|o| o.to_string()).collect() })
}

fn iscsi(host: Host, target: &str) -> Iscsi {
    Iscsi { target: Some(target.into()), ..Iscsi::at(host) }
}

#[test]
fn urls_are_read_and_shown() {
    let boot = || Host::BootServer;
    let http = |tls, host, port, path: &str| Source::Http(Http { tls, host, port, path: path.into() });
    let with_user =
        Iscsi { user: Some("me".into()), secret: Some("a:b@c".into()), lun: 3, ..iscsi(v4("10.0.0.1"), "iqn.x:y") };
    for (text, expected, shown) in [
        ("ram", Source::Ram, "ram"),
        ("http://10.0.0.1/a/root.img", http(false, v4("10.0.0.1"), 80, "/a/root.img"), ""),
        ("https://boot.lab:8443/r?x=1", http(true, Host::Name("boot.lab".into()), 8443, "/r?x=1"), ""),
        ("http://[fd00::1]:81/r", http(false, v4("fd00::1"), 81, "/r"), ""),
        ("nbd:///worker", nbd(boot(), 10809, "worker"), ""),
        ("nbd://10.0.0.1:9000/a%2fb", nbd(v4("10.0.0.1"), 9000, "a/b"), "nbd://10.0.0.1:9000/a/b"),
        ("nbd://10.0.0.1", nbd(v4("10.0.0.1"), 10809, ""), "nbd://10.0.0.1/"),
        (
            "nfs://10.0.0.1/srv/%s?vers=4.2&rw",
            nfs(v4("10.0.0.1"), "/srv/%s", &["vers=4.2", "rw"]),
            "nfs://10.0.0.1/srv/%s",
        ),
        ("iscsi://me:a%3ab%40c@10.0.0.1/iqn.x:y/3", Source::Iscsi(with_user), "iscsi://10.0.0.1/iqn.x:y/3"),
        ("iscsi:///", Source::Iscsi(Iscsi::at(boot())), ""),
        (
            "iscsi:///?credentials=/etc/chap&portal=san2&portal=[fd00::2]:3261",
            Source::Iscsi(Iscsi {
                credentials: Some("/etc/chap".into()),
                portals: vec![(Host::Name("san2".into()), 3260), (Host::Address("fd00::2".parse().unwrap()), 3261)],
                ..Iscsi::at(boot())
            }),
            "iscsi:///",
        ),
        ("iscsi:ibft", Source::Iscsi(Iscsi { firmware: true, ..Iscsi::at(boot()) }), ""),
    ] {
        let source = parse_source(text).expect(text);
        assert_eq!(source, expected, "{text}");
        assert_eq!(source.to_string(), if shown.is_empty() { text } else { shown });
    }
}

#[test]
fn bad_urls_say_why_and_keep_secrets() {
    for (text, message) in [
        ("", "begin with"),
        ("worker", "`worker` is no source of a root: it must be `ram` or begin with"),
        ("ftp://10.0.0.1/x", "only http"),
        ("http://10.0.0.1", "the path of the image is missing"),
        ("http://me:pw@10.0.0.1/x", "`http://...@10.0.0.1/x` is no source of a root: only iscsi takes a user"),
        ("nbd://10.0.0.1:0/x", "the port is bad"),
        ("nbd://10.0.0.1:x/x", "the port is bad"),
        ("nbd://[::1/x", "the server's name is bad"),
        ("nbd://[10.0.0.1]/x", "the IPv6 address is bad"),
        ("nbd://[::1]x/x", "the server is bad"),
        ("nbd://a b/x", "the server's name is bad"),
        ("nbd:///%4", "`%` without two hex digits"),
        ("nbd:///%00", "it holds what no name holds"),
        (
            "iscsi://me:secret@10.0.0.1/iqn.x/one?secret_in=hidden",
            "`iscsi://...@10.0.0.1/iqn.x/one` is no source of a root: the LUN",
        ),
        ("iscsi:///iqn.x?what=1", "its options are"),
        ("nfs://10.0.0.1", "the path of the export is missing"),
    ] {
        let error = parse_source(text).expect_err(text).to_string();
        assert!(error.contains(message), "{error}, expected {message}");
        assert!(!error.contains("secret@") && !error.contains("hidden") && !error.contains("pw"), "{error}");
    }
}

#[test]
fn others_words_are_translated() {
    let (one, boot) = (|| v4("10.0.0.1"), || Host::BootServer);
    let dracut = Iscsi {
        user: Some("u".into()),
        secret: Some("p".into()),
        user_in: Some("ru".into()),
        secret_in: Some("rp".into()),
        port: 3261,
        lun: 10,
        ..iscsi(one(), "iqn.2009-06.dracut:t0")
    };
    let keys = Iscsi {
        port: 3262,
        initiator: Some("iqn.me".into()),
        user: Some("u".into()),
        secret: Some("p".into()),
        ..iscsi(one(), "iqn.t")
    };
    for (line, expected) in [
        ("root=/dev/sda1 ro", None),
        ("root=UUID=1:2", None),
        ("root=dhcp", Some(Wanted::RootPath)),
        (
            "root=/dev/nfs nfsroot=10.0.0.1:/srv/r,vers=3,rw",
            Some(Wanted::from(nfs(one(), "/srv/r", &["vers=3", "rw"]))),
        ),
        ("root=/dev/nfs nfsroot=/srv/%s", Some(Wanted::from(nfs(boot(), "/srv/%s", &[])))),
        ("root=nfs4:10.0.0.1:/srv/r:hard,ro", Some(Wanted::from(nfs(one(), "/srv/r", &["vers=4", "hard", "ro"])))),
        ("root=nfs:[fd00::1]:/r", Some(Wanted::from(nfs(v4("fd00::1"), "/r", &[])))),
        ("root=nbd:10.0.0.1:worker:squashfs:ro", Some(Wanted::from(nbd(one(), 10809, "worker")))),
        ("netroot=nbd:10.0.0.1:2000", Some(Wanted::from(nbd(one(), 2000, "")))),
        ("root=/dev/nbd0 nbdroot=10.0.0.1,worker,nbd0", Some(Wanted::from(nbd(one(), 10809, "worker")))),
        ("nbdroot=10.0.0.1:2000", Some(Wanted::from(nbd(one(), 2000, "")))),
        ("root=live:http://10.0.0.1/r.img", Some(Wanted::from(parse_source("http://10.0.0.1/r.img").expect("good")))),
        (
            "netroot=iscsi:u:p:ru:rp@10.0.0.1::3261:if:eth0:10:iqn.2009-06.dracut:t0",
            Some(Wanted::from(Source::Iscsi(dracut))),
        ),
        ("root=x netroot=iscsi:10.0.0.1::::iqn.a", Some(Wanted::from(Source::Iscsi(iscsi(one(), "iqn.a"))))),
        (
            "netroot=iscsi rd.iscsi.target.name=iqn.t rd.iscsi.target.ip=10.0.0.1 rd.iscsi.target.port=3262 \
             rd.iscsi.initiator=iqn.me rd.iscsi.username=u rd.iscsi.password=p",
            Some(Wanted::from(Source::Iscsi(keys))),
        ),
        ("rd.iscsi.firmware=1", Some(Wanted::from(parse_source("iscsi:ibft").expect("good")))),
    ] {
        let found = wanted(&parse_cmdline(line), &[]).expect(line);
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{line}");
    }
}

#[test]
fn our_own_key_comes_first_and_the_image_last() {
    let baked = ["nbd:///worker".to_string()];
    let all = |line: &str| wanted(&parse_cmdline(line), &baked).expect(line);
    let source = |text: &str| Wanted::from(parse_source(text).expect(text));
    assert_eq!(all(""), [source("nbd:///worker")]);
    assert_eq!(all("root=/dev/ram0"), [source("nbd:///worker")]);
    assert_eq!(all("root=dhcp"), [Wanted::RootPath]);
    assert_eq!(all("root=dhcp bw.root=ram"), [source("ram")]);
    assert_eq!(all("root=/dev/nfs"), [Wanted::RootPath, source("nfs:///tftpboot/%s")]);
    assert_eq!(
        all("netroot=iscsi:10.0.0.1::::iqn.a netroot=iscsi:10.0.0.2::::iqn.a rd.iscsi.username=u root=dhcp"),
        [source("iscsi://u@10.0.0.1/iqn.a"), source("iscsi://u@10.0.0.2/iqn.a")]
    );
    assert_eq!(all("bw.root=nbd://a/x bw.root=nbd://b/x"), [source("nbd://a/x"), source("nbd://b/x")]);
    assert!(wanted(&parse_cmdline("bw.root=nonsense"), &baked).is_err());
    assert!(
        wanted(&parse_cmdline("netroot=iscsi:u:secret@h:x:y:z:1:2:3"), &[])
            .is_err_and(|e| !e.to_string().contains("secret"))
    );
}

#[test]
fn root_paths() {
    for (text, expected) in [
        ("/srv/root", nfs(Host::BootServer, "/srv/root", &[])),
        ("10.0.0.1:/srv/root,vers=3", nfs(v4("10.0.0.1"), "/srv/root", &["vers=3"])),
        ("nbd://10.0.0.1/x", nbd(v4("10.0.0.1"), 10809, "x")),
        ("nbd:10.0.0.1:x", nbd(v4("10.0.0.1"), 10809, "x")),
        ("iscsi:10.0.0.1:::10:iqn.a:b", Source::Iscsi(Iscsi { lun: 16, ..iscsi(v4("10.0.0.1"), "iqn.a:b") })),
        (
            "iscsi:10.0.0.1::3261:1-0-0-0:iqn.a",
            Source::Iscsi(Iscsi { lun: 1, port: 3261, ..iscsi(v4("10.0.0.1"), "iqn.a") }),
        ),
    ] {
        assert_eq!(parse_root_path(text).expect(text), expected, "{text}");
    }
    for text in ["", "worker", "iscsi:10.0.0.1:::1-1:iqn.a", "dhcp"] {
        assert!(parse_root_path(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn any_word_is_read_or_refused(text in "(nbd|nfs|iscsi|http|root=|)[:/@%?&=,.a-f0-9\\[\\]-]{0,40}") {
        if let Ok(source) = parse_source(&text) {
            // What is shown names the same place.
            if !text.contains(['%', '?', '@']) {
                prop_assert_eq!(parse_source(&source.to_string()), Ok(source));
            }
        }
        let _ = parse_root_path(&text);
        for key in ["root", "netroot", "nfsroot", "nbdroot"] {
            let _ = wanted(&parse_cmdline(&format!("{key}={text}")), &[]);
        }
    }
}

#[test]
fn a_web_server_is_one_of_two_schemes() {
    assert_eq!(parse_http("http:///x/root.json").map(Source::Http), parse_source("http:///x/root.json"));
    let error = parse_http("nbd://10.0.0.1/x").unwrap_err().to_string();
    assert!(error.contains("nbd://10.0.0.1/x") && error.contains("it must begin with http:// or https://"), "{error}");
    assert!(parse_http("root.json").is_err());
}

#[test]
fn each_mode_has_a_source_and_stands_in_what_is_said_of_others() {
    let refusal = |text: &str| parse_source(text).unwrap_err().to_string();
    for mode in RootMode::ALL {
        let (word, served) = (mode.word(), *mode != RootMode::Ram);
        let text = if served { [word, "://10.0.0.1/iqn.x:y"].concat() } else { word.into() };
        assert!(parse_source(&text).is_ok(), "{text}");
        assert!(refusal("x").contains(word), "{word}: {}", refusal("x"));
        assert_eq!(refusal("x://h/y").contains(word), served, "{word}: {}", refusal("x://h/y"));
    }
}
