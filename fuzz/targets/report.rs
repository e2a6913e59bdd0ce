//! What a node posts to `serve`, and how it is shown.
#![no_main]

use bootwright::chain::Index;
use bootwright::serve::state::{NodeStates, ReadReport};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(told) = ReadReport::parse(bytes) else { return };
    let (from, now) = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), Instant::now());
    let mut state = NodeStates::new(&Index { schema: 1, nodes: vec![], report: None });
    assert!(state.reported(told, from, now).is_ok());
    let views = state.views(now);
    assert_eq!(views.len(), 1);
    let text = serde_json::to_string(&views).unwrap();
    assert!(text.len() < 64 << 10, "{} bytes are shown", text.len());
    assert!(!text.chars().any(char::is_control));
});
