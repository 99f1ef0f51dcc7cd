//! What checks without an agent keep, and when a config is confirmed that nobody watches.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::{changes, config, host, noting};
use crate::support::agent::Agent;
use crate::support::api::Api;
use crate::support::generations::{list, standing};

fn standings(agent: &Agent) -> Vec<String> {
    list(&agent.state_dir()).iter().map(|it| standing(it).to_string()).collect()
}

#[test]
fn the_first_check_that_finds_a_config_after_confirm_time_confirms_it() {
    let api = Api::plain();
    let agent = noting(host(&api), "true").config("fake: {stderr: old}").build();
    api.answer_config(config("new"));
    assert!(agent.run(["--check"]).says().starts_with("installed config"));
    assert_eq!(standings(&agent), ["replaced", "unconfirmed"]);
    agent.run(["--check"]).says();
    assert_eq!(standings(&agent), ["replaced", "unconfirmed"]);
    // The default is ten minutes.
    let file = agent.state_dir().join("generations.json");
    let at = list(&agent.state_dir())[1]["installed_at"].as_u64().unwrap();
    for (seconds, expected) in [(500, "unconfirmed"), (600, "confirmed")] {
        let text = fs::read_to_string(&file).unwrap();
        let now = list(&agent.state_dir())[1]["installed_at"].as_u64().unwrap();
        fs::write(&file, text.replace(&now.to_string(), &(at - seconds).to_string())).unwrap();
        agent.run(["--check"]).says();
        assert_eq!(standings(&agent)[1], expected);
    }
    let written = || fs::metadata(&file).unwrap().ino();
    let before = written();
    agent.run(["--check"]).says();
    assert_eq!(written(), before, "nothing is new, and nothing is written");
    assert_eq!((changes(&agent), agent.config()), (vec!["new".to_string()], config("new")));
}
