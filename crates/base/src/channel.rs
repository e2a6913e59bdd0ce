//! An unbounded queue from many threads to one, with the names of std's `mpsc`. std chooses between three kinds of
//! queue at run time, which would add 28 kB to PID1.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The sending end. Clones send to the same receiver.
pub struct Sender<T>(Arc<Queue<T>>);

/// The receiving end. Values come in the order in which they were sent.
pub struct Receiver<T>(Arc<Queue<T>>);

/// The receiver is gone; the value was dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct SendError;

/// Why no value was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvError {
    /// No value came in the given time.
    Timeout,
    /// All senders are gone, and all values were received.
    Disconnected,
}

struct Queue<T> {
    ends: Mutex<Ends<T>>,
    changed: Condvar,
}

struct Ends<T> {
    values: VecDeque<T>,
    senders: usize,
    is_received: bool,
}

/// Makes a queue with its two ends.
#[must_use]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let ends = Mutex::new(Ends { values: VecDeque::new(), senders: 1, is_received: true });
    let queue = Arc::new(Queue { ends, changed: Condvar::new() });
    (Sender(queue.clone()), Receiver(queue))
}

impl<T> Queue<T> {
    /// The lock cannot be poisoned: no code below panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Ends<T>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Sender<T> {
    /// Never waits.
    ///
    /// # Errors
    /// [`SendError`] when the receiver is gone.
    pub fn send(&self, value: T) -> Result<(), SendError> {
        let mut ends = self.0.lock();
        if !ends.is_received {
            return Err(SendError);
        }
        ends.values.push_back(value);
        self.0.changed.notify_one();
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.lock().senders -= 1;
        self.0.changed.notify_one();
    }
}

impl<T> Drop for Receiver<T> {
    /// Drops the remaining values after the lock is free, because dropping a value may send through this queue.
    fn drop(&mut self) {
        let mut ends = self.0.lock();
        ends.is_received = false;
        let values = std::mem::take(&mut ends.values);
        drop(ends);
        drop(values);
    }
}

impl<T> Receiver<T> {
    /// Waits for the next value.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.next(None)
    }

    /// Waits for the next value, for `time` at most.
    ///
    /// # Errors
    /// [`RecvError`]
    pub fn recv_timeout(&self, time: Duration) -> Result<T, RecvError> {
        // A time that no clock can show counts as no limit.
        self.next(Instant::now().checked_add(time))
    }

    /// Receives a value if there is one now.
    ///
    /// # Errors
    /// [`RecvError::Timeout`] when there is none yet, [`RecvError::Disconnected`].
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.recv_timeout(Duration::ZERO)
    }

    /// Iterates over all values; ends when the last sender is gone.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// Iterates over the values that are there now.
    pub fn try_iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    fn next(&self, until: Option<Instant>) -> Result<T, RecvError> {
        let mut ends = self.0.lock();
        loop {
            if let Some(value) = ends.values.pop_front() {
                return Ok(value);
            }
            if ends.senders == 0 {
                return Err(RecvError::Disconnected);
            }
            ends = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.0.changed.wait(ends).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return Err(RecvError::Timeout),
                Some(left) => self.0.changed.wait_timeout(ends, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn values_come_in_order_from_all_senders() {
        let (sender, receiver) = channel();
        thread::scope(|scope| {
            for thread in 0..4 {
                let sender = sender.clone();
                scope.spawn(move || (0..1000).for_each(|n| sender.send((thread, n)).expect("it is received")));
            }
            drop(sender);
            let mut next = [0; 4];
            while let Ok((thread, n)) = receiver.recv() {
                assert_eq!(n, next[thread]);
                next[thread] += 1;
            }
            assert_eq!(next, [1000; 4]);
        });
        assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
    }

    #[test]
    fn what_was_sent_is_taken_after_the_last_sender_is_gone() {
        let (sender, receiver) = channel();
        assert_eq!(receiver.try_recv(), Err(RecvError::Timeout));
        sender.send(7).expect("it is received");
        drop(sender);
        assert_eq!(receiver.recv_timeout(Duration::MAX), Ok(7));
        assert_eq!(receiver.try_recv(), Err(RecvError::Disconnected));
    }

    #[test]
    fn a_wait_ends_in_time_or_when_the_last_sender_goes() {
        let (sender, receiver) = channel::<()>();
        let since = Instant::now();
        assert_eq!(receiver.recv_timeout(Duration::from_millis(30)), Err(RecvError::Timeout));
        assert!(since.elapsed() >= Duration::from_millis(30));
        let waiting = thread::spawn(move || receiver.recv());
        thread::sleep(Duration::from_millis(20));
        drop(sender);
        assert_eq!(waiting.join().expect("no panic"), Err(RecvError::Disconnected));
    }

    #[test]
    fn a_sender_hears_that_nobody_receives_and_what_was_left_is_dropped() {
        let (sender, receiver) = channel();
        let value = Arc::new(());
        sender.send(value.clone()).expect("it is received");
        drop(receiver);
        assert_eq!(Arc::strong_count(&value), 1);
        assert_eq!(sender.send(value), Err(SendError));
    }
}
