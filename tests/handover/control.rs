//! The negative control: what the clients see of a plain restart. If they saw nothing, they would prove nothing.

use super::Scene;
use super::load::Mode;

#[test]
fn a_plain_restart_refuses_connections() {
    let scene = Scene::new("restart");
    let loads = scene.load();
    for round in 0..3 {
        let change = scene.change(&format!("round {round}"));
        assert!(!change.overlap, "a plain restart reaps the old collector before it starts the new one");
    }
    let reports = scene.finish("3 changes, restart-mode restart", loads);
    let new = reports.iter().find(|report| report.mode == Some(Mode::New)).unwrap();
    assert!(new.refused + new.reset > 0, "the client cannot see a restart: {new:?}");
    assert!(new.acknowledged > new.refused, "the client saw nothing but failures: {new:?}");
}
