//! Bad situations, as a user of the real program meets them; each is followed by a build that must be as if nothing had
//! happened.

mod archives;
mod attributes;
mod budget;
mod cache;
mod conflicts;
mod disks;
mod downloads;
mod go_caches;
mod interrupts;
mod locks;
mod module_keys;
mod output;
mod secrets;
mod surroundings;
