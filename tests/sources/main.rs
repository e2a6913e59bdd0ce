//! Sources against servers on loopback that serve, misbehave, or hold what must not be trusted.

mod deb;
mod fetch;
#[path = "../support/http.rs"]
mod http;
mod oci;
#[path = "../support/registry.rs"]
mod registry;
