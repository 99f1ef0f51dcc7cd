//! Changes of the config that no client notices.

use super::{Scene, assert_seamless, modes, rounds};
use crate::support::machine;

#[test]
fn good_configs_cost_no_client_anything() {
    if machine::skips_hand_over() {
        return;
    }
    for mode in modes() {
        let count = rounds(5, 100);
        let scene = Scene::new(mode);
        let loads = scene.load();
        for round in 0..count {
            let change = scene.change(&format!("round {round}"));
            assert!(change.overlap, "round {round}: the collector was restarted, not handed over");
        }
        let reports = scene.finish(&format!("{count} changes, restart-mode {mode}"), loads);
        assert_seamless(&reports, count);
    }
}
