//! Values by name.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// Values by name, in the order of their names; written as an object. A list, because these are few, and the code of a
/// `BTreeMap` is 2 kB of PID1 for each type of value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByName<T>(Vec<(String, T)>);

impl<T> ByName<T> {
    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// All names and values, sorted by name.
    pub fn iter(&self) -> std::slice::Iter<'_, (String, T)> {
        self.0.iter()
    }

    /// Sets the value of a name.
    pub fn insert(&mut self, name: String, value: T) {
        let at = self.0.iter().position(|(known, _)| *known >= name).unwrap_or(self.0.len());
        match self.0.get_mut(at) {
            Some(entry) if entry.0 == name => entry.1 = value,
            _ => self.0.insert(at, (name, value)),
        }
    }
}

impl<T> Default for ByName<T> {
    fn default() -> ByName<T> {
        ByName(Vec::new())
    }
}

impl<T> FromIterator<(String, T)> for ByName<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(entries: I) -> ByName<T> {
        let mut all = ByName::default();
        entries.into_iter().for_each(|(name, value)| all.insert(name, value));
        all
    }
}

impl<T> From<BTreeMap<String, T>> for ByName<T> {
    fn from(map: BTreeMap<String, T>) -> ByName<T> {
        ByName(map.into_iter().collect())
    }
}

impl<T: Serialize> Serialize for ByName<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ByName<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByName<T>, D::Error> {
        BTreeMap::deserialize(deserializer).map(ByName::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_map(entries in prop::collection::vec(("[ab]{0,2}", any::<u8>()), 0..20), name in "[ab]{0,2}") {
            let map: BTreeMap<String, u8> = entries.iter().cloned().collect();
            let ours: ByName<u8> = entries.into_iter().collect();
            prop_assert_eq!(ours.get(&name), map.get(&name));
            let text = serde_json::to_string(&ours).expect("plain data");
            prop_assert_eq!(&text, &serde_json::to_string(&map).expect("plain data"));
            prop_assert_eq!(serde_json::from_str::<ByName<u8>>(&text).expect("as written"), ours);
        }
    }
}
