//! Links that are given a name. VLANs and bonds are tried in tests/vm/links.rs, with the kernel of the image: many
//! hosts have none that makes them.

use super::*;

#[test]
fn links_get_the_names_that_the_command_line_gives() {
    with_cable(|mut cable| {
        cable.plug_in();
        let mac = link(&mut cable.here, "veth0").mac;
        let mut plan = plan(Source::Static { addresses: vec![(ADDRESS.into(), 24)], gateways: vec![] }, 10);
        // veth is made by software, and only real links are renamed: nothing may happen to it.
        plan.names = vec![("wan0".into(), mac)];
        let heard = Heard::default();
        let mut engine = Engine::new(plan, client(), &heard, clock).expect("an engine");
        engine.wait_until_up().expect("up");
        let index = link(&mut cable.here, "veth0").index;
        cable.here.rename(index, "wan0").expect("root may");
        assert_eq!(link(&mut cable.here, "wan0").mac, mac);
    });
}
