//! Runs phases in a thread that can be left behind, because a system call that hangs cannot be interrupted.

use crate::base::watchdog::WATCHDOG;
use crate::boot::findings::{AttemptEnd, AttemptWork};
use bootwright_base::background;
use bootwright_base::channel::{Receiver, RecvError, Sender, channel};
use bootwright_base::sys::{Fence, Fenced, Sys};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// After so long the console says which phase is running.
const SOON: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("not done after {deadline_s} s")]
    Deadline { deadline_s: u64 },
    #[error("the attempt before still hangs after another {deadline_s} s")]
    Hangs { deadline_s: u64 },
    #[error("no thread: {0}")]
    Thread(#[source] io::Error),
}

/// A thread that runs one piece of work after another.
pub struct Worker(Sender<background::ThreadBody>);

impl Worker {
    fn start() -> io::Result<Worker> {
        let (phases, wait) = channel::<background::ThreadBody>();
        background::spawn("phases", Box::new(move || wait.iter().for_each(|phase| phase())))?;
        Ok(Worker(phases))
    }
}

/// The attempts at one phase. Only one attempt at a time may change the machine.
pub struct PhaseAttempts<'a> {
    pub sys: &'static dyn Sys,
    /// Runs all phases, until one of them hangs in it.
    pub worker: &'a mut Option<Worker>,
    /// In whole seconds.
    pub deadline: Duration,
    /// The last attempt, if it was given up and has not ended.
    pub given_up: Option<GivenUp>,
}

/// An attempt past its deadline. It can change nothing any more, except by the system call that it hangs in.
pub struct GivenUp {
    ended: Receiver<AttemptEnd>,
    fence: Fence,
}

impl PhaseAttempts<'_> {
    /// Makes one attempt. `begin` makes its work, which may change the machine through the given [`Sys`] until the
    /// deadline. `slow` is called when the work takes long. If an earlier attempt was given up, its end is awaited
    /// first, because the system call that it hangs in may still change the machine.
    ///
    /// # Errors
    /// [`WorkerError`]
    pub fn attempt<E>(
        &mut self,
        begin: &mut dyn FnMut(Arc<dyn Sys>) -> Result<AttemptWork, E>,
        slow: &dyn Fn(),
    ) -> Result<AttemptEnd, E>
    where
        E: From<WorkerError>,
    {
        if let Some(ended) = self.await_given_up(slow)? {
            return Ok(ended);
        }
        let fence = Fence::default();
        let work = begin(Arc::new(Fenced { sys: self.sys, fence: fence.clone() }))?;
        let (done, wait) = channel();
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start().map_err(WorkerError::Thread)?,
        };
        // Nobody receives the result of an attempt that was given up. The worker itself waits for work, so the outer
        // send does not fail.
        let _ = worker.0.send(Box::new(move || drop(done.send(work()))));
        match self.receive(&wait, slow) {
            Ok(ended) => {
                *self.worker = Some(worker);
                Ok(ended)
            }
            Err(_) => {
                fence.close();
                self.given_up = Some(GivenUp { ended: wait, fence });
                Err(WorkerError::Deadline { deadline_s: self.deadline.as_secs() }.into())
            }
        }
    }

    /// Waits for an attempt that was given up. It counts as successful if no change was refused to it.
    fn await_given_up(&mut self, slow: &dyn Fn()) -> Result<Option<AttemptEnd>, WorkerError> {
        let Some(GivenUp { ended, fence }) = self.given_up.take() else { return Ok(None) };
        match self.receive(&ended, slow) {
            Ok(late) => Ok(Some(late).filter(|late| late.outcome.is_ok() && !fence.has_refused())),
            Err(RecvError::Disconnected) => Ok(None),
            Err(RecvError::Timeout) => {
                self.given_up = Some(GivenUp { ended, fence });
                Err(WorkerError::Hangs { deadline_s: self.deadline.as_secs() })
            }
        }
    }

    fn receive(&self, wait: &Receiver<AttemptEnd>, slow: &dyn Fn()) -> Result<AttemptEnd, RecvError> {
        let soon = self.deadline.min(SOON);
        let ended = WATCHDOG.receive(wait, soon);
        if !matches!(ended, Err(RecvError::Timeout)) {
            return ended;
        }
        slow();
        WATCHDOG.receive(wait, self.deadline - soon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::Failure;
    use bootwright_base::sys::fake::FakeSys;
    use nix::errno::Errno;
    use std::path::Path;

    const BRIEF: Duration = Duration::from_millis(50);

    fn bench<'a>(fake: &'static FakeSys, worker: &'a mut Option<Worker>) -> PhaseAttempts<'a> {
        PhaseAttempts { sys: fake, worker, deadline: BRIEF, given_up: None }
    }

    /// An attempt that makes a folder, waits at `gate`, and makes another one.
    fn attempt(bench: &mut PhaseAttempts, name: &'static str, gate: Receiver<()>) -> Result<(), String> {
        let mut gate = Some(gate);
        let begun = bench.attempt::<Failure>(
            &mut |sys| {
                let gate = gate.take().expect("begun once");
                Ok(Box::new(move || {
                    let make = |step: &str| sys.make_dir(Path::new(&[name, step].concat()));
                    let first = make("/first");
                    let _ = gate.recv();
                    AttemptEnd::of(first.and_then(|()| make("/second")).map_err(Failure::from))
                }))
            },
            &|| (),
        );
        begun.and_then(|ended| ended.outcome).map_err(|failure| failure.to_string())
    }

    fn open() -> Receiver<()> {
        channel().1
    }

    #[test]
    fn an_attempt_that_was_given_up_changes_nothing_any_more() {
        let (fake, mut worker): (&'static FakeSys, _) = (Box::leak(Box::default()), None);
        let mut bench = bench(fake, &mut worker);
        let (release, gate) = channel();
        assert_eq!(attempt(&mut bench, "/one", gate), Err("not done after 0 s".into()));
        assert_eq!(attempt(&mut bench, "/two", open()), Err("the attempt before still hangs after another 0 s".into()));
        assert_eq!(
            fake.calls(),
            ["make_dir /one/first"],
            "the second attempt does not begin while the first one hangs"
        );
        drop(release);
        assert_eq!(attempt(&mut bench, "/three", open()), Ok(()));
        assert_eq!(fake.calls(), ["make_dir /one/first", "make_dir /three/first", "make_dir /three/second"]);
    }

    #[test]
    fn what_was_done_late_and_whole_is_not_done_again() {
        let (fake, mut worker): (&'static FakeSys, _) = (Box::leak(Box::default()), None);
        let mut bench = bench(fake, &mut worker);
        let (release, gate) = channel::<()>();
        let mut gate = Some(gate);
        let late = bench.attempt::<Failure>(
            &mut |sys| {
                let gate = gate.take().expect("begun once");
                Ok(Box::new(move || {
                    let made = sys.make_dir(Path::new("/late"));
                    let _ = gate.recv();
                    AttemptEnd::of(made.map_err(Failure::from))
                }))
            },
            &|| (),
        );
        assert!(late.is_err());
        drop(release);
        assert_eq!(attempt(&mut bench, "/again", open()), Ok(()));
        assert_eq!(fake.calls(), ["make_dir /late"]);
    }

    #[test]
    fn one_worker_does_all_until_it_hangs() {
        let (fake, mut worker): (&'static FakeSys, _) = (Box::leak(Box::default()), None);
        let mut first = bench(fake, &mut worker);
        first.deadline = Duration::from_secs(60);
        assert_eq!(attempt(&mut first, "/a", open()), Ok(()));
        assert!(worker.is_some(), "it waits for the next phase");
        let (_never, gate) = channel();
        assert!(attempt(&mut bench(fake, &mut worker), "/b", gate).is_err());
        assert!(worker.is_none(), "its thread hangs");
    }

    #[test]
    fn a_refusal_is_an_error_as_any_other() {
        let failure = Failure::from(Errno::ECANCELED);
        assert!(failure.to_string().starts_with("ECANCELED"), "{failure}");
    }
}
