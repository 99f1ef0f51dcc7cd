//! An agent whose machine cannot hand over, by its architecture or because it is emulated: it runs on without.

use super::{Scene, modes};
use crate::support::{machine, needs};

#[test]
fn a_change_is_a_plain_restart_and_says_why() {
    if !needs::that(!machine::can_hand_over(), "this agent hands over") {
        return;
    }
    let reason = match machine::name() {
        "aarch64" | "x86_64" => "the kernel refuses to report its binds: Function not implemented",
        _ => "hand-over needs Linux on x86-64 or arm64",
    };
    for mode in modes() {
        let scene = Scene::with_stand_in(mode, |builder| builder);
        assert!(!scene.change("second").overlap, "{mode}: two collectors at once");
        let status = scene.status();
        let words = status["config"]["changed_by"].as_str().unwrap_or_default();
        assert!(words.starts_with(&format!("restart ({reason}")), "{mode}: {words}");
        let warnings = scene.agent.count_log(|line| line.msg().starts_with("hand-over is not available"));
        // Only with handover it is a warning.
        assert_eq!(warnings, usize::from(mode == "handover"));
        assert_eq!(scene.agent.stop(), 0);
    }
}
