//! What a node posts to `serve`, and how it is shown.
#![no_main]

use bootwright::chain::Index;
use bootwright::serve::state::State;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (from, now) = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), Instant::now());
    let mut state = State::new(&Index { schema: 1, nodes: vec![], report: None });
    let taken = state.reported(bytes, from, now);
    let views = state.views(now);
    assert_eq!(views.len(), usize::from(taken.is_ok()));
    assert!(serde_json::to_string(&views).is_ok());
});
