//! `report.html` beside an image: as a document, and in a browser.

use quick_xml::events::{BytesStart, Event};
use std::time::Duration;
use testkit::need::have;
use testkit::project::Project;

/// An element of the page, with the text directly in it.
#[derive(Debug, Clone)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
}

impl Element {
    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// All elements in their order. The page is written so that it is XML too, but for its script and style.
fn parse(page: &str) -> Vec<Element> {
    let page = without(&without(page, "style"), "script");
    let mut reader = quick_xml::Reader::from_str(&page);
    let (mut found, mut open) = (Vec::<Element>::new(), Vec::new());
    let element = |start: &BytesStart<'_>| Element {
        name: String::from_utf8_lossy(start.name().as_ref()).into_owned(),
        attributes: start
            .attributes()
            .map(|attribute| {
                let attribute = attribute.expect("each attribute has one value");
                let value = unescape(&String::from_utf8_lossy(&attribute.value));
                (String::from_utf8_lossy(attribute.key.as_ref()).into_owned(), value)
            })
            .collect(),
        text: String::new(),
    };
    loop {
        match reader.read_event().expect("the page is well-formed") {
            Event::Start(start) => {
                open.push(found.len());
                found.push(element(&start));
            }
            Event::Empty(start) => found.push(element(&start)),
            Event::End(_) => drop(open.pop()),
            Event::Text(text) => {
                if let Some(last) = open.last() {
                    found[*last].text += String::from_utf8_lossy(&text).trim();
                }
            }
            Event::GeneralRef(name) => {
                if let Some(last) = open.last() {
                    found[*last].text += &unescape(&format!("&{};", String::from_utf8_lossy(&name)));
                }
            }
            Event::Eof => return found,
            _ => {}
        }
    }
}

/// The references that the page is written with.
fn unescape(text: &str) -> String {
    let references = [("&#x2f;", "/"), ("&#x27;", "'"), ("&quot;", "\""), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    references.iter().fold(text.to_string(), |text, (reference, plain)| text.replace(reference, plain))
}

/// Without what stands in the one element of that name, which is no XML.
fn without(page: &str, name: &str) -> String {
    let (before, rest) = page.split_once(&format!("<{name}>")).expect("the page has one");
    let (_, after) = rest.split_once(&format!("</{name}>")).expect("it ends");
    format!("{before}<{name}></{name}>{after}")
}

fn page(project: &Project) -> String {
    project.read("out/tiny/report.html")
}

/// Sections with their headings, what names and describes them, and tables by their columns.
fn outline(page: &[Element]) -> String {
    let shown = ["section", "h1", "h2", "h3", "nav", "a", "meter", "svg", "summary", "noscript", "button", "polyline"];
    let mut lines: Vec<String> = Vec::new();
    for element in page.iter().filter(|element| {
        let is_column = element.name == "th" && element.attribute("scope") == Some("col");
        shown.contains(&element.name.as_str()) || is_column || element.attribute("role").is_some()
    }) {
        let named = ["role", "id", "href", "aria-labelledby", "aria-describedby", "tabindex"];
        let named = named.iter().filter_map(|key| Some(format!(" {key}={}", element.attribute(key)?)));
        let text = if element.text.contains(|c: char| c.is_ascii_digit()) { "" } else { element.text.as_str() };
        let line = format!("{}{} {text}", element.name, named.collect::<String>()).trim_end().to_string();
        // Tiles and figures are as many as the image has files.
        if lines.last() != Some(&line) {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_page_has_its_parts_and_needs_nothing_from_elsewhere() {
    let project = Project::new();
    project.add("\n[budget]\nboot_files_mb = 1\nram_mib = 200\n");
    project.build(&[]).succeeds();
    project.write("tool/data", vec![b'e'; 30_000]);
    project.build(&[]).succeeds();
    let text = page(&project);
    let elements = parse(&text);
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/report.outline.txt");
    let outline = outline(&elements);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &outline).unwrap();
    }
    assert_eq!(outline, std::fs::read_to_string(&golden).unwrap_or_default(), "UPDATE_GOLDEN=1 rewrites it");
    for element in &elements {
        for key in ["src", "href", "action", "data", "poster", "srcset"] {
            let value = element.attribute(key).unwrap_or_default();
            assert!(value.is_empty() || value.starts_with('#') || value == "data:,", "{element:?}");
        }
        assert!(element.attributes.iter().all(|(key, _)| !key.starts_with("on")), "{element:?}");
    }
    let ids: Vec<&str> = elements.iter().filter_map(|element| element.attribute("id")).collect();
    for element in &elements {
        for key in ["aria-labelledby", "aria-describedby"] {
            let names = element.attribute(key).unwrap_or_default().split_ascii_whitespace();
            names.for_each(|name| assert_eq!(ids.iter().filter(|id| **id == name).count(), 1, "{name}"));
        }
        if element.name == "button" {
            assert!(element.attribute("aria-label").is_some_and(|label| label.contains(" packed, ")), "{element:?}");
        }
    }
}

#[test]
fn the_page_is_the_same_for_the_same_image_and_follows_what_changes() {
    let project = Project::new();
    project.build(&[]).succeeds();
    project.build(&["--out", "elsewhere"]).succeeds();
    assert_eq!(page(&project), project.read("elsewhere/tiny/report.html"));
    let first = page(&project);
    let texts = |page: &str| parse(page).into_iter().map(|element| element.text).collect::<Vec<String>>();
    assert!(texts(&first).contains(&"There was no image of this recipe before.".into()));

    project.write("overlay/etc/new.conf", "new\n");
    project.build(&[]).succeeds();
    let second = page(&project);
    assert!(texts(&second).contains(&"/etc/new.conf (config)".into()));
    std::fs::remove_file(project.path("out/tiny/report.html")).unwrap();
    project.build(&[]).succeeds().says(&["nothing changed"]);
    assert_eq!(page(&project), second, "it is written again, with the same difference");

    let smoke = |image: &str| {
        let line = format!(
            r#"{{"version":1,"recipe":"tiny","image_id":"{image}","phases":[{{"name":"mounts","start_s":1.0,"end_s":1.5,"outcome":"ok"}}],"services":[]}}"#
        );
        project.write("out/tiny/smoke/timeline.json", line);
        project
            .write("out/tiny/smoke/ram.json", r#"[{"event":"phase mounts","uptime_s":1.5,"touched_bytes":104857600}]"#);
        std::fs::remove_file(project.path("out/tiny/report.html")).unwrap();
        project.build(&[]).succeeds().says(&["nothing changed"]);
        texts(&page(&project))
    };
    let manifest: serde_json::Value = serde_json::from_str(&project.read("out/tiny/manifest.json")).unwrap();
    assert!(!smoke("another").contains(&"phase mounts".into()), "a boot of another image says nothing of this one");
    let shown = smoke(manifest["image_id"].as_str().unwrap());
    assert!(shown.contains(&"phase mounts".into()) && shown.contains(&"100 MiB".into()), "{shown:?}");
}

/// A project whose names would be markup, if they were not escaped.
fn hostile() -> Project {
    let project = Project::new();
    // As large as a tile of its own has to be, and nothing that could be compressed.
    let noise = |seed: u32| -> Vec<u8> {
        let next = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*state >> 24) as u8)
        };
        let mut state = seed;
        std::iter::from_fn(|| next(&mut state)).take(9000).collect()
    };
    project.write("overlay/etc/\"><img src=x onerror=alert(1)>", noise(1));
    project.write("overlay/etc/</script><b>&amp;{{ 7 * 7 }}", noise(2));
    project.add("\n[budget]\nboot_files_mb = 1\n");
    project
}

#[test]
fn names_stay_text() {
    let project = hostile();
    project.build(&[]).succeeds();
    let elements = parse(&page(&project));
    assert!(elements.iter().all(|element| !["img", "b"].contains(&element.name.as_str())));
    assert_eq!(elements.iter().filter(|element| element.name == "script").count(), 1);
    let label =
        |part: &str| elements.iter().any(|e| e.attribute("aria-label").is_some_and(|label| label.contains(part)));
    assert!(label("onerror") && label("{{ 7 * 7 }}"), "both are tiles of their own");
}

/// Loads the page in frames of two widths, walks it by keyboard, and measures widths and contrast. Its result is a JSON line.
const JUDGE: &str = r#"<!DOCTYPE html><meta charset="utf-8"><pre id="result"></pre><script>
const page = PAGE;
const rgba = (text) => (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number).concat(1).slice(0, 4);
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, part, i) => {
  const v = c[i] / 255;
  return sum + part * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
}, 0);
function contrast(element, window) {
  const layers = [];
  for (let e = element; e; e = e.parentElement) layers.push(rgba(window.getComputedStyle(e).backgroundColor));
  const canvas = matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18, 1] : [255, 255, 255, 1];
  const below = layers.reverse().reduce((under, top) => over(top, under), canvas);
  const ink = over(rgba(window.getComputedStyle(element).color), below);
  const [a, b] = [light(ink), light(below)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}
async function judge(width) {
  const frame = document.createElement("iframe");
  Object.assign(frame, { width, height: 900, srcdoc: page });
  document.body.append(frame);
  await new Promise((done) => { frame.onload = done; });
  const view = frame.contentWindow, doc = frame.contentDocument;
  const tiles = [...doc.querySelectorAll(".tile")], said = () => doc.getElementById("chosen").textContent;
  const walked = [];
  tiles[0].focus();
  for (const key of ["End", "Home", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"]) {
    const target = doc.activeElement;
    target.dispatchEvent(new view.KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    const now = doc.activeElement;
    walked.push({ key, moved: now !== target, said: said() === now.getAttribute("aria-label"),
      stops: tiles.filter((tile) => tile.tabIndex === 0).length, last: now === tiles[tiles.length - 1] });
  }
  const faint = [...doc.body.querySelectorAll("*")].filter((element) => {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    return own && !["SCRIPT", "NOSCRIPT"].includes(element.tagName) && contrast(element, view) < 4.5;
  }).map((element) => element.outerHTML.slice(0, 120));
  return { width, page: doc.documentElement.scrollWidth, tiles: tiles.length, walked, faint,
    images: doc.images.length, title: doc.title };
}
(async () => {
  const results = [await judge(360), await judge(1440)];
  document.getElementById("result").textContent = JSON.stringify(results);
})();
</script>"#;

#[test]
fn the_page_works_by_keyboard_narrow_and_wide_light_and_dark() {
    if !have(&["chromium"]) {
        return;
    }
    let project = hostile();
    project.build(&[]).succeeds();
    project.write("tool/data", vec![b'e'; 30_000]);
    project.build(&[]).succeeds();
    let text = serde_json::to_string(&page(&project)).unwrap().replace("</", "<\\/");
    project.write("judge.html", JUDGE.replacen("PAGE", &text, 1));
    let url = |name: &str| format!("file://{}", project.path(name).display());
    for (name, scheme) in [("dark", 0), ("light", 1)] {
        let scheme = format!("--blink-settings=preferredColorScheme={scheme}");
        let dom = browse(&["--virtual-time-budget=5000", "--dump-dom", &scheme, &url("judge.html")]);
        let result = dom.split_once("<pre id=\"result\">").and_then(|(_, rest)| rest.split_once("</pre>"));
        let (result, _) = result.unwrap_or_else(|| panic!("no result: {dom:.500}"));
        let result = result.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        let views: Vec<serde_json::Value> = serde_json::from_str(&result).unwrap_or_else(|e| panic!("{e}: {result}"));
        assert_eq!(views.len(), 2);
        for view in views {
            assert!(view["page"].as_u64() <= view["width"].as_u64(), "{name}: wider than the window: {view:#}");
            assert_eq!(view["faint"], serde_json::json!([]), "{name}: contrast below 4.5: {view:#}");
            assert!(view["tiles"].as_u64() > Some(4) && view["images"] == 0, "{name}: {view:#}");
            let walked = view["walked"].as_array().unwrap();
            for step in walked {
                assert!(step["said"] == true && step["stops"] == 1, "{name}: {step}");
            }
            assert!(walked[0]["last"] == true && walked[1]["last"] == false, "{name}: {walked:?}");
            assert!(walked[2]["moved"] == true || walked[3]["moved"] == true, "{name}: arrows do nothing: {walked:?}");
        }
        // For people: what it looks like.
        let to = testkit::folders::work_folder().join(format!("report-{name}.png"));
        let shot = format!("--screenshot={}", to.display());
        browse(&["--window-size=1440,2400", &scheme, &shot, &url("out/tiny/report.html")]);
        assert!(std::fs::metadata(&to).is_ok_and(|file| file.len() > 10_000), "{}", to.display());
    }
}

fn browse(args: &[&str]) -> String {
    let mut command = assert_cmd::Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]).args(args);
    let output = command.timeout(Duration::from_secs(120)).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
