//! Changes that are no hand-over, though the host could: the plain restart, and `status` says why.

use serde_json::{Value, json};

use super::Scene;
use crate::support::machine;

/// Pushes a good config and returns how it took effect.
#[track_caller]
pub(super) fn changed_by(scene: &Scene, name: &str, config: Value) -> String {
    scene.api.answer_config(config);
    scene.watch("verdict on a good config", || scene.is_good(name));
    let status = scene.status();
    assert_eq!(status["config"]["rejected_revision"], Value::Null, "{status}");
    status["config"]["changed_by"].as_str().unwrap_or_default().to_string()
}

#[test]
fn a_config_that_tails_files_is_restarted_in_mode_auto() {
    if machine::skips_hand_over() {
        return;
    }
    let scene = Scene::new("auto");
    let mut config = scene.config("tails");
    config["receivers"]["filelog"] = json!({"include": [scene.agent.dir().join("nothing.log")]});
    config["service"]["pipelines"]["logs"]["receivers"] = json!(["otlp", "filelog"]);
    let words = changed_by(&scene, "tails", config);
    assert!(words.starts_with("restart (") && words.contains("filelog"), "{words}");
}
