//! Insertion sort for short lists. std's sort adds 5 kB to PID1 for each type that it sorts, and no list here is longer
//! than the devices of a machine.

/// Sorts by a key. Stable: entries with equal keys keep their order.
pub fn sort_by_key<T, K: Ord>(list: &mut [T], key: impl Fn(&T) -> K) {
    for end in 1..list.len() {
        let mut at = end;
        while at > 0 && key(&list[at]) < key(&list[at - 1]) {
            list.swap(at, at - 1);
            at -= 1;
        }
    }
}

/// Sorts texts and removes duplicates.
pub fn sort_and_dedup(list: &mut Vec<String>) {
    for end in 1..list.len() {
        let mut at = end;
        while at > 0 && list[at] < list[at - 1] {
            list.swap(at, at - 1);
            at -= 1;
        }
    }
    list.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_the_standard_library_does(mut list in prop::collection::vec((0u8..5, any::<u8>()), 0..40)) {
            let mut expected = list.clone();
            expected.sort_by_key(|(key, _)| *key);
            sort_by_key(&mut list, |(key, _)| *key);
            prop_assert_eq!(list, expected);
        }

        #[test]
        fn texts_once_each(mut list in prop::collection::vec("[ab]{0,2}", 0..40)) {
            let mut expected = list.clone();
            expected.sort();
            expected.dedup();
            sort_and_dedup(&mut list);
            prop_assert_eq!(list, expected);
        }
    }
}
