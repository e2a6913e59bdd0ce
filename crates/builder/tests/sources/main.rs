//! Sources against servers on loopback that serve, misbehave, or hold what must not be trusted; one recipe from there to its boot.

mod deb;
mod fetch;
mod lab;
mod mirrors;
mod oci;
mod prebuilt;
mod snapshot;
mod source_packages;
mod upstream;
mod vendor;
