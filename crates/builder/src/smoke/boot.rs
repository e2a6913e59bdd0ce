//! One boot from start to verdict.

use super::artifacts::{self, Files};
use super::console::{BootProgress, News, Trouble};
use super::error::{FailedBoot, Why};
use super::kept::Kept;
use super::logs::{Logs, LogsError, ServiceTail};
use super::machine::{Machine, Output};
use super::qemu::{self, Boot, QEMU, Wiring};
use super::qmp::Qmp;
use super::{Engine, Reached, SmokeError, SmokeOptions, SmokeReport, Via, junit, netboot, ram, ssh};
use crate::interrupt::Interrupts;
use crate::recipe::Expectation;
use crate::report::RamSample;
use crate::serve::{Fetch, Folder, HttpServer, Shelf};
use crate::ui::{Task, Ui};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often signals, the deadline and SSH are looked at while the console is silent.
const TICK: Duration = Duration::from_millis(50);
/// Time for QEMU to open its monitor.
const MONITOR_WAIT: Duration = Duration::from_secs(20);
/// After a trouble the console is read on for as long, so that the log holds the rest of a panic.
const AFTERMATH: Duration = Duration::from_secs(1);
/// Time for an orderly power-down.
const POWERDOWN_WAIT: Duration = Duration::from_secs(90);

/// Why the loop ended without success.
enum Stop {
    Gave { why: Why, stage: String },
    Error(SmokeError),
}

/// Boots, waits for the expectations, writes the artifacts.
pub(super) fn boot_once(
    plan: &Boot,
    options: &SmokeOptions,
    smoke_dir: &Path,
    interrupts: &Arc<Interrupts>,
    ui: &Ui,
) -> Result<SmokeReport, SmokeError> {
    let files = Files::prepare(smoke_dir)?;
    let engine = match plan.engine {
        Engine::Kvm => "KVM",
        Engine::Tcg => "TCG",
    };
    let name = format!("booting `{}` in QEMU ({engine}, {} MiB, -smp {})", options.recipe, plan.ram_mib, plan.smp);
    let task = ui.task(&name, None);
    let mut session = Session::start(plan, options, files, interrupts.clone(), ui, &task)?;
    let verdict = match session.wait_for_expectations() {
        Ok(()) if options.powerdown => session.power_down(),
        other => other,
    };
    session.stop_ssh.store(true, Ordering::Relaxed);
    session.conclude(verdict)
}

struct Session<'a> {
    plan: Boot,
    options: &'a SmokeOptions,
    files: Files,
    interrupts: Arc<Interrupts>,
    ui: &'a Ui,
    task: &'a Task,
    machine: Machine,
    server: Option<HttpServer>,
    /// Holds the sockets of QMP and of the third serial port: paths short enough for one, whatever `out/` is.
    sockets: tempfile::TempDir,
    ssh_port: u16,
    ssh_answered: Option<Receiver<()>>,
    stop_ssh: Arc<AtomicBool>,
    progress: BootProgress,
    reached: Vec<Reached>,
    begin: Instant,
    powerdown_s: Option<f64>,
    ram: Vec<RamSample>,
}

impl<'a> Session<'a> {
    fn start(
        plan: &Boot,
        options: &'a SmokeOptions,
        files: Files,
        interrupts: Arc<Interrupts>,
        ui: &'a Ui,
        task: &'a Task,
    ) -> Result<Self, SmokeError> {
        let sockets = tempfile::tempdir().map_err(|cause| SmokeError::io("make", &std::env::temp_dir(), cause))?;
        let (qmp_path, logs_path) = (sockets.path().join("qmp"), sockets.path().join("logs"));
        let mut plan = plan.clone();
        let serve = || serve(&plan.image_dir, &files.http_log);
        let server = match plan.via {
            Via::Kernel if plan.serves_root => {
                let server = serve()?;
                plan.cmdline += &format!(" bw.root={}/root.img", netboot::address(server.port));
                Some(server)
            }
            Via::Kernel => None,
            Via::Ipxe => {
                // A boot file of somebody else's leads to a server of theirs.
                let server = options.bootfile.is_none().then(serve).transpose()?;
                netboot::write_scripts(&files.dir, options, server.as_ref().map(|server| server.port))?;
                server
            }
        };
        let wiring = Wiring { timeline: &files.timeline_raw, logs: &logs_path, qmp: &qmp_path };
        let args = qemu::arguments(&plan, Some(wiring), &netboot::tftp(options, &plan.image_dir, &files.dir), 0);
        let log = artifacts::create(&files.console)?;
        let begin = Instant::now();
        let machine = Machine::start(QEMU, &args, log, &files.qemu_log, Some(&qmp_path))?;
        let reached = |e: &Expectation| Reached { expectation: e.clone(), uptime_s: None, wall_s: None };
        let mut session = Self {
            plan,
            options,
            files,
            interrupts,
            ui,
            task,
            machine,
            server,
            sockets,
            ssh_port: 0,
            ssh_answered: None,
            stop_ssh: Arc::default(),
            progress: BootProgress::default(),
            reached: options.expect.iter().map(reached).collect(),
            begin,
            powerdown_s: None,
            ram: Vec::new(),
        };
        session.ssh_port = match session.monitor() {
            Ok(mut qmp) => qmp.forwarded_port()?,
            // It ended at once: the wait for the expectations says so.
            Err(_) if session.machine.ended().is_some() => 0,
            Err(e) => return Err(e),
        };
        artifacts::write_whole(&session.files.command, session.command().as_bytes())?;
        Ok(session)
    }

    /// Connects to the monitor; gives up early when QEMU has ended.
    fn monitor(&mut self) -> Result<Qmp, SmokeError> {
        let deadline = Instant::now() + MONITOR_WAIT;
        loop {
            match self.machine.qmp((Instant::now() + Duration::from_millis(500)).min(deadline)) {
                Err(_) if Instant::now() < deadline && self.machine.ended().is_none() => {}
                result => return result,
            }
        }
    }

    /// The command that boots the same by hand.
    fn command(&self) -> String {
        let args = qemu::arguments(
            &self.plan,
            None,
            &netboot::rerun_tftp(self.options, &self.plan.image_dir, &self.files.dir),
            self.ssh_port,
        );
        format!("{}\n", qemu::shell_line(QEMU, &args))
    }

    fn wait_for_expectations(&mut self) -> Result<(), Stop> {
        let deadline = self.begin + self.options.deadline;
        while self.reached.iter().any(|r| r.wall_s.is_none()) {
            match self.next_news()? {
                News::Trouble(trouble) => return Err(self.give_up(Why::Trouble(trouble))),
                News::Reached(expectation, uptime_s) => self.note_reached(expectation, Some(uptime_s)),
                News::Phase { name, took_s } => {
                    let end_s = self.progress.phases.iter().rev().find(|p| p.name == name).and_then(|p| p.end_s);
                    self.sample_ram(format!("phase {name}"), end_s);
                    self.say(format!("  phase {name} {took_s:.2} s"));
                }
                News::None => {}
            }
            if self.ssh_answered.as_ref().is_some_and(|answered| answered.try_recv().is_ok()) {
                self.note_reached(Expectation::SshAnswers, None);
            }
            if Instant::now() >= deadline && self.reached.iter().any(|r| r.wall_s.is_none()) {
                return Err(self.give_up(Why::Deadline { after_s: self.options.deadline.as_secs() }));
            }
        }
        Ok(())
    }

    /// Notes where the boot was, then takes in what the console still says: the rest of a panic.
    fn give_up(&mut self, why: Why) -> Stop {
        let stage = match &why {
            Why::Trouble(Trouble::Fatal { phase, .. } | Trouble::Phase { phase, .. }) => format!("phase {phase}"),
            _ => self.progress.stage(),
        };
        let deadline = Instant::now() + AFTERMATH;
        while matches!(why, Why::Trouble(_)) && Instant::now() < deadline {
            match self.machine.output.recv_timeout(TICK) {
                Ok(Output::Line(line)) => drop(self.progress.feed(&line)),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Output::End) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Stop::Gave { why, stage }
    }

    /// The next console line's news; none after a tick of silence.
    fn next_news(&mut self) -> Result<News, Stop> {
        if self.interrupts.asked() {
            return Err(Stop::Error(SmokeError::Interrupted));
        }
        match self.machine.output.recv_timeout(TICK) {
            Ok(Output::Line(line)) => {
                self.task.aside(|| self.ui.detail(format!("  | {line}")));
                Ok(self.progress.feed(&line))
            }
            Err(RecvTimeoutError::Timeout) => Ok(News::None),
            Ok(Output::End) | Err(RecvTimeoutError::Disconnected) => {
                let status = self.machine.wait(Instant::now() + AFTERMATH);
                let status = status.map_or_else(|| "console closed".into(), |s| s.to_string());
                let complaint = self.machine.complaint();
                Err(self.give_up(Why::Exited { status, complaint }))
            }
        }
    }

    /// Costs some milliseconds. What cannot be told is left out.
    fn sample_ram(&mut self, event: String, uptime_s: Option<f64>) {
        let touched = ram::touched_bytes(self.machine.pid(), self.plan.ram_mib);
        let sample =
            uptime_s.zip(touched).map(|(uptime_s, touched_bytes)| RamSample { event, uptime_s, touched_bytes });
        self.ram.extend(sample);
    }

    fn write_ram(&self) -> Result<(), SmokeError> {
        let json = serde_json::to_vec(&self.ram).expect("samples are plain data");
        artifacts::write_whole(&self.files.ram, &json)
    }

    fn note_reached(&mut self, expectation: Expectation, uptime_s: Option<f64>) {
        self.sample_ram(expectation.to_string(), uptime_s);
        let wall_s = self.begin.elapsed().as_secs_f64();
        if expectation == Expectation::PhasesDone {
            self.start_ssh();
        }
        let awaited = self.reached.iter_mut().find(|r| r.expectation == expectation && r.wall_s.is_none());
        if let Some(reached) = awaited {
            (reached.uptime_s, reached.wall_s) = (uptime_s, Some(round_ms(wall_s)));
            let uptime = uptime_s.map_or(String::new(), |s| format!(" at {s:.2} s of guest uptime,"));
            self.say(format!("  {expectation}{uptime} {wall_s:.1} s after the start"));
        }
    }

    /// Before the guest's network is up an attempt only fills QEMU's queue.
    fn start_ssh(&mut self) {
        if self.ssh_answered.is_none() && self.options.expect.contains(&Expectation::SshAnswers) {
            let (sender, receiver) = channel();
            let answered = move || {
                // The receiver may be gone by then.
                let _ = sender.send(());
            };
            ssh::watch_port(self.ssh_port, self.stop_ssh.clone(), answered);
            self.ssh_answered = Some(receiver);
        }
    }

    /// Presses the power button; PID1 must say that it goes down, and QEMU must end well.
    fn power_down(&mut self) -> Result<(), Stop> {
        let begin = Instant::now();
        let pressed = self.monitor().and_then(|mut qmp| qmp.run("system_powerdown", serde_json::json!({})));
        pressed.map_err(Stop::Error)?;
        let mut down = false;
        while begin.elapsed() < POWERDOWN_WAIT {
            match self.next_news() {
                Ok(News::Trouble(Trouble::Down { how })) if how == "poweroff" => down = true,
                Ok(News::Trouble(trouble)) => return Err(self.give_up(Why::Trouble(trouble))),
                Ok(_) => {}
                Err(Stop::Gave { why: Why::Exited { .. }, .. }) if down => {
                    let took_s = begin.elapsed().as_secs_f64();
                    self.powerdown_s = Some(round_ms(took_s));
                    self.say(format!("  switched off in order, {took_s:.1} s after the power button"));
                    return Ok(());
                }
                Err(stop) => return Err(stop),
            }
        }
        Err(self.give_up(Why::Powerdown { after_s: POWERDOWN_WAIT.as_secs() }))
    }

    fn say(&self, text: String) {
        self.task.aside(|| self.ui.say(text));
    }

    /// Writes the artifacts and ends the machine, or hands it on.
    fn conclude(mut self, verdict: Result<(), Stop>) -> Result<SmokeReport, SmokeError> {
        let report = self.report(verdict.is_ok());
        match verdict {
            Ok(()) => self.pass(report),
            Err(Stop::Gave { why, stage }) => Err(SmokeError::Failed(Box::new(self.fail(report, why, stage)?))),
            Err(Stop::Error(e)) => {
                self.machine.kill();
                self.files.write_timeline()?;
                Err(e)
            }
        }
    }

    fn pass(mut self, mut report: SmokeReport) -> Result<SmokeReport, SmokeError> {
        if self.options.keep_logs {
            let (logs, problem) = self.ask_for_logs();
            if let Some(problem) = problem {
                return Err(SmokeError::Logs { problem });
            }
            self.keep_logs(&logs, &mut report)?;
        }
        let keep = self.options.keep && !self.options.powerdown;
        if !keep {
            self.machine.kill();
        }
        self.write_ram()?;
        self.files.write_timeline()?;
        artifacts::write_whole(&self.files.junit, junit::render(&report, None)?.as_bytes())?;
        Ok(if keep { self.hand_on(report) } else { report })
    }

    /// Has PID1 hand out all logs before the machine is ended.
    fn fail(mut self, mut report: SmokeReport, why: Why, stage: String) -> Result<FailedBoot, SmokeError> {
        let (logs, logs_problem) = self.ask_for_logs();
        let keep = self.options.keep && self.machine.ended().is_none();
        if !keep {
            self.machine.kill();
        }
        self.write_ram()?;
        self.files.write_timeline()?;
        report.failure = Some(format!("{stage}: {why}"));
        self.keep_logs(&logs, &mut report)?;
        let missing: Vec<Expectation> =
            self.reached.iter().filter(|r| r.wall_s.is_none()).map(|r| r.expectation.clone()).collect();
        let services = self.failed_services(&missing).map(|service| ServiceTail {
            path: report.service_logs.get(service).cloned(),
            lines: logs.tail(service),
            service: service.clone(),
        });
        let (tail, services) = (self.progress.tail(), services.collect());
        let failed = junit::Failed { why: &why, stage: &stage, tail: &tail };
        artifacts::write_whole(&self.files.junit, junit::render(&report, Some(failed))?.as_bytes())?;
        let report = if keep { self.hand_on(report) } else { report };
        Ok(FailedBoot { why, stage, missing, tail, services, logs_problem, report })
    }

    fn keep_logs(&self, logs: &Logs, report: &mut SmokeReport) -> Result<(), SmokeError> {
        report.service_logs = logs.write(&self.files)?;
        report.kernel_log = self.files.kernel_log.exists().then(|| self.files.kernel_log.clone());
        Ok(())
    }

    fn ask_for_logs(&mut self) -> (Logs, Option<LogsError>) {
        if self.machine.ended().is_some() {
            return (Logs::default(), Some(LogsError::Ended));
        }
        if self.progress.phases.is_empty() {
            return (Logs::default(), Some(LogsError::NoPid1));
        }
        Logs::ask(&self.sockets.path().join("logs"), || self.interrupts.asked())
    }

    /// Services that failed, and those that were awaited in vain.
    fn failed_services<'b>(&'b self, missing: &'b [Expectation]) -> impl Iterator<Item = &'b String> {
        let awaited = missing.iter().filter_map(|missing| match missing {
            Expectation::Service(name) => Some(name),
            _ => None,
        });
        self.progress.failed_services().chain(awaited).collect::<BTreeSet<_>>().into_iter()
    }

    /// The machine goes on in the hands of the caller.
    fn hand_on(self, mut report: SmokeReport) -> SmokeReport {
        report.ssh_port = Some(self.ssh_port);
        report.qmp_socket = Some(self.sockets.path().join("qmp"));
        report.qemu_pid = Some(self.machine.pid());
        report.kept = Some(Kept {
            machine: self.machine,
            interrupts: self.interrupts,
            _sockets: self.sockets,
            _server: self.server,
        });
        report
    }

    fn report(&self, passed: bool) -> SmokeReport {
        SmokeReport {
            version: 1,
            recipe: self.options.recipe.clone(),
            passed,
            failure: None,
            engine: self.plan.engine,
            via: self.plan.via,
            firmware: self.options.firmware,
            ram_mib: self.plan.ram_mib,
            smp: self.plan.smp,
            wall_s: round_ms(self.begin.elapsed().as_secs_f64()),
            expectations: self.reached.clone(),
            phases: self.progress.phases.clone(),
            powerdown_s: self.powerdown_s,
            console_log: self.files.console.clone(),
            kernel_log: None,
            service_logs: BTreeMap::new(),
            command: self.command().trim_end().into(),
            ssh_port: None,
            qmp_socket: None,
            qemu_pid: None,
            kept: None,
        }
    }
}

/// The image over HTTP, with a line a fetch in `log`.
fn serve(image_dir: &Path, log: &Path) -> Result<HttpServer, SmokeError> {
    let log = Mutex::new(artifacts::create(log)?);
    let on_fetch = move |fetch: &Fetch| {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        // The log is for people: a full disk must not stop the boot.
        let _ = log.write_all(format!("{fetch}\n").as_bytes());
    };
    HttpServer::start(Folder::new(image_dir, Shelf::Image), Arc::new(on_fetch))
        .map_err(|cause| SmokeError::Server { cause })
}

fn round_ms(s: f64) -> f64 {
    (s * 1000.0).round() / 1000.0
}
