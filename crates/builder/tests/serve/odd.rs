//! Reports that no node sends.

use serde_json::{Value, json};
use testkit::serve::Serve;

/// A report with `value` in the place of one field.
fn with(pointer: &str, value: Value) -> String {
    let mut report = json!({
        "version": 1, "uuid": null,
        "network": { "hostname": "n1", "interface": "eth0", "mac": "52:54:00:00:00:01", "ip": "192.0.2.1" },
        "timeline": {
            "version": 1, "recipe": "worker", "image_id": "0123456789abcdef",
            "phases": [{ "name": "root", "start_s": 1.0, "end_s": 1.25, "outcome": "ok" }],
            "services": [{ "name": "kubelet", "start_s": 1.0, "ready_s": null, "restarts": 0 }],
        },
    });
    *report.pointer_mut(pointer).unwrap() = value;
    report.to_string()
}

const TEXTS: [&str; 9] = [
    "/uuid",
    "/network/hostname",
    "/network/mac",
    "/network/ip",
    "/timeline/recipe",
    "/timeline/image_id",
    "/timeline/phases/0/name",
    "/timeline/phases/0/outcome",
    "/timeline/services/0/name",
];
const NUMBERS: [&str; 4] = [
    "/timeline/phases/0/start_s",
    "/timeline/phases/0/end_s",
    "/timeline/services/0/start_s",
    "/timeline/services/0/ready_s",
];

/// Characters that steer a terminal, or turn round what stands beside them.
fn steers(c: char) -> bool {
    c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c)
}

fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|value| texts(value, found)),
        Value::Object(map) => map.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

/// Reports of this lab's node with a field that is meant to break the page, by that field.
pub fn hostile() -> Vec<(&'static str, String)> {
    let markup = "\"><script>document.title='x'</script><img src=x onerror=alert(1)><b>bold</b><iframe>";
    let turned = "\u{202e}gpj.exe \u{2066}\u{5e9}\u{5dc}\u{5d5}\u{5dd}\u{1b}[31m";
    let long = "W".repeat(100_000);
    let mut reports = Vec::new();
    for field in TEXTS.into_iter().filter(|field| *field != "/network/mac" && *field != "/timeline/phases/0/outcome") {
        reports.extend([markup, turned, &long].map(|text| (field, with(field, text.into()))));
    }
    for field in NUMBERS {
        reports.extend([1e308, -1e308].map(|number| (field, with(field, number.into()))));
    }
    reports.push(("/timeline/phases/0/end_s", with("/timeline/phases/0/end_s", Value::Null)));
    reports
}

#[test]
fn odd_values_in_every_field_are_taken_and_tamed_or_refused() {
    let lab = crate::lab();
    let serve = Serve::start(lab.path(), &["-v"]);
    let long = "x".repeat(200_000);
    let odd = [
        "",
        "\u{1b}[2J\u{7}\u{0}\u{9b}31m\r\n",
        "\u{202e}\u{2066}gpj.exe",
        "<script>alert(1)</script>",
        "\u{d7ff}\u{e000}\u{10ffff}",
        &long,
    ];
    for pointer in TEXTS {
        for text in odd {
            let answer = serve.ask("POST /report HTTP/1.1", &with(pointer, text.into()));
            assert!(answer.starts_with("HTTP/1.1 204"), "{pointer} {text:.20?}: {answer}");
        }
    }
    for pointer in NUMBERS {
        for number in [json!(1e308), json!(-1e308), json!(u64::MAX), json!(i64::MIN), json!(5e-324)] {
            let answer = serve.ask("POST /report HTTP/1.1", &with(pointer, number.clone()));
            assert!(answer.starts_with("HTTP/1.1 204"), "{pointer} {number}: {answer}");
            let took = &serve.node("n1")["phases"][0]["took_s"];
            assert!(took.as_f64().is_some_and(|took| (0.0..=1e9).contains(&took)), "{pointer} {number}: {took}");
        }
    }
    for pointer in
        TEXTS.into_iter().chain(NUMBERS).chain(["/timeline/services/0/restarts", "/version", "/timeline", "/network"])
    {
        for wrong in [json!([[]]), json!(true)] {
            let answer = serve.ask("POST /report HTTP/1.1", &with(pointer, wrong.clone()));
            assert!(answer.starts_with("HTTP/1.1 400"), "{pointer} {wrong}: {answer}");
        }
    }
    let status = serve.status();
    let mut found = Vec::new();
    texts(&status["nodes"], &mut found);
    for text in found {
        assert!(!text.chars().any(steers) && text.chars().count() < 300, "{text:?}");
    }
    assert_eq!(status["nodes"][0]["name"], "n1", "known nodes come first");
    let log = serve.log();
    assert!(!log.chars().any(|c| c != '\n' && steers(c)), "{log:?}");
}

#[test]
fn what_is_no_json_of_ours_is_refused() {
    let lab = crate::lab();
    let serve = Serve::start(lab.path(), &[]);
    let good = with("/uuid", Value::Null);
    assert!(serve.ask("POST /report HTTP/1.1", &good).starts_with("HTTP/1.1 204"));
    let nested = format!("{{\"version\":1,\"more\":{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        good.replace("\"n1\"", r#""\ud800""#),
        good.replace("1.25", "1e999"),
        good.replace("\"version\":1", "\"version\":1,\"version\":1"),
        good.replace("\"version\":1", "\"version\":99999999999999999999"),
        good.replace("\"restarts\":0", "\"restarts\":-1"),
        good.replace("\"n1\"", "\"a\u{1}b\""),
        good.replace("null", "NaN"),
        nested,
        format!("{good}{good}"),
        String::new(),
    ] {
        let answer = serve.ask("POST /report HTTP/1.1", &body);
        assert!(answer.starts_with("HTTP/1.1 400"), "{body:.80}: {answer}");
    }
    assert_eq!(serve.node("n1")["stage"], "booting", "the last good one stands");
}

#[test]
fn a_line_of_the_log_obeys_nothing_that_a_client_sent() {
    let lab = crate::lab();
    let serve = Serve::start(lab.path(), &[]);
    let long = format!("/{}", "y".repeat(8000));
    for path in ["/a\u{9b}2Jb", "/a\u{202e}b", "/%1b%5b2J", &long] {
        let _ = serve.ask(&format!("GET {path} HTTP/1.1\r\nRange: bytes=\u{9b}2J"), "");
    }
    serve.ask("GET /worker/vmlinuz HTTP/1.1", "");
    let log = serve.wait_for_log("GET /worker/vmlinuz 200");
    assert!(!log.chars().any(|c| c != '\n' && steers(c)), "{log:?}");
    assert!(log.lines().all(|line| line.len() < 500), "{log}");
}
