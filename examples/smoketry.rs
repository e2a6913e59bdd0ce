use bootwright::recipe::Expectation::*;
use bootwright::smoke::*;
use bootwright::ui::*;
fn main() {
    let a: Vec<String> = std::env::args().skip(1).collect();
    let has = |f: &str| a.iter().any(|x| x == f);
    let val = |f: &str| a.iter().find_map(|x| x.strip_prefix(f).map(str::to_string));
    let o = SmokeOptions {
        recipe: "t".into(),
        expect: vec![PhasesDone, ContainerdReady, KubeletHealthy, SshAnswers],
        kernel_cmdline: vec!["quiet".into()],
        smoke_cmdline: val("cmd=").into_iter().collect(),
        ram_mib: val("ram=").map_or(256, |v| v.parse().unwrap()),
        smp: 2,
        deadline: std::time::Duration::from_secs(val("dl=").map_or(60, |v| v.parse().unwrap())),
        via: if has("ipxe") { Via::Ipxe } else { Via::Kernel },
        accel: if has("kvm") {
            AccelChoice::Kvm
        } else if has("auto") {
            AccelChoice::Auto
        } else {
            AccelChoice::Tcg
        },
        powerdown: has("off"),
        keep: has("keep"),
        cache_dir: "/root/wk/smoke/cache".into(),
    };
    let ui = Ui { verbosity: if has("-v") { Verbosity::Verbose } else { Verbosity::Normal }, bars: false };
    let dir = std::path::Path::new("/root/wk/smoke/out/t");
    if has("min") {
        match find_min_ram(dir, &o, 16, &ui) {
            Ok(m) => println!("{}", serde_json::to_string_pretty(&m).unwrap()),
            Err(e) => println!("{}", bootwright::error::Failure::from(e)),
        }
        return;
    }
    match run_smoke(dir, &o, &ui) {
        Ok(mut r) => {
            println!("{}", serde_json::to_string_pretty(&r).unwrap());
            if let Some(k) = r.kept.take() {
                k.hold(&ui)
            }
        }
        Err(e) => {
            let f = bootwright::error::Failure::from(e);
            println!("exit {:?} {f}", f.exit)
        }
    }
}
