//! The same work on many things at once; results come in the order of the things, whatever ran first.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls `work` on each item, on at most `jobs` threads.
pub fn map<T: Sync, R: Send>(items: &[T], jobs: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if jobs <= 1 || items.len() <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(items.len()) {
            scope.spawn(|| {
                while let Some((i, item)) = take_next(&next, items) {
                    let result = work(item);
                    done.lock().expect("no thread panics while it holds the lock").push((i, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no thread panics while it holds the lock");
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, result)| result).collect()
}

fn take_next<'a, T>(next: &AtomicUsize, items: &'a [T]) -> Option<(usize, &'a T)> {
    let i = next.fetch_add(1, Ordering::Relaxed);
    items.get(i).map(|item| (i, item))
}

#[cfg(test)]
mod tests {
    #[test]
    fn order_is_kept_and_every_item_is_done_once() {
        let items: Vec<u32> = (0..1000).collect();
        for jobs in [0, 1, 2, 7, 2000] {
            assert_eq!(super::map(&items, jobs, |i| i * 2), items.iter().map(|i| i * 2).collect::<Vec<_>>(), "{jobs}");
        }
        assert!(super::map(&[0; 0], 4, |i: &i32| *i).is_empty());
    }
}
