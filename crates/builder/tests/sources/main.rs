//! Sources against servers on loopback that serve, misbehave, or hold what must not be trusted; one recipe from there to its boot.

mod deb;
mod fetch;
#[path = "../support/http.rs"]
mod http;
mod lab;
#[path = "../support/need.rs"]
mod need;
mod oci;
mod prebuilt;
#[path = "../support/registry.rs"]
mod registry;
#[path = "../support/shipped.rs"]
mod shipped;
