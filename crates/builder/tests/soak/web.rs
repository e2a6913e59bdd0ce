//! A root over HTTP is fetched once: machines boot again and again while the server comes and goes.

use crate::Tally;
use crate::image::Image;
use crate::random::Random;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testkit::running::Running;
use testkit::server::ServerProcess;

pub fn image() -> Image {
    Image::build("http", "")
}

/// PID1 compares the image with its SHA-256 before it is mounted.
pub fn soak(image: &Image, mut random: Random, time: Duration) -> Tally {
    let out = image.dir.parent().expect("an image lies in a folder").display().to_string();
    let tool = testkit::tool::tool_path().display().to_string();
    let url = "http://10.0.2.2:{port}";
    let mut server =
        ServerProcess::start(&[&tool, "serve", "--quiet", "--listen", "127.0.0.1:{port}", "--url", url, "--out", &out]);
    let root = format!("bw.root=http://10.0.2.2:{}/http-http/root.img", server.port);
    let words = ["--append".to_string(), root, "--deadline-s=600".into()];
    let arguments = [&image.arguments[..], &words].concat();
    let (mut kills, mut boots, mut longest) = (0, 0, Duration::ZERO);
    let until = Instant::now() + time;
    while Instant::now() < until {
        let (booted, since) = (AtomicBool::new(false), Instant::now());
        thread::scope(|scope| {
            scope.spawn(|| {
                // Told even when the boot fails, so that the other thread ends.
                let _told = Tell(&booted);
                drop(Running::boot(&arguments, Stdio::null()));
            });
            while !booted.load(Ordering::Relaxed) {
                thread::sleep(random.millis(200, 3_000));
                server.kill();
                kills += 1;
                thread::sleep(random.millis(200, 3_000));
                server.restart();
            }
        });
        boots += 1;
        longest = longest.max(since.elapsed());
    }
    let checked = format!("{boots} boots, the slowest in {:.0} s", longest.as_secs_f64());
    Tally { kills, repaired: boots, recoveries: Vec::new(), checked }
}

struct Tell<'a>(&'a AtomicBool);

impl Drop for Tell<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
