//! Resource limits that services, and through containerd all containers, inherit (getrlimit(2)).

use crate::base::timeline::Timeline;
use nix::sys::resource::{RLIM_INFINITY, Resource, rlim_t, setrlimit};

/// Soft and hard limits: those that systemd gives a service, changed as containerd's own `containerd.service` changes them.
/// A program that needs more than 1,024 descriptors raises its own soft limit; one that uses select(2) must not have more.
const LIMITS: [(Resource, rlim_t, rlim_t); 4] = [
    (Resource::RLIMIT_NOFILE, 1 << 10, 1 << 19),
    (Resource::RLIMIT_NPROC, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_CORE, RLIM_INFINITY, RLIM_INFINITY),
];

/// Sets the limits of PID1, from which all other processes have theirs. One that cannot be set stays the kernel's.
pub fn set(timeline: &Timeline) {
    for (resource, soft, hard) in LIMITS {
        if setrlimit(resource, soft, hard).is_err() {
            timeline.note("a resource limit cannot be set");
        }
    }
}
