//! What would be ignored or changed in silence: variables that are nearly a setting's, and an API key that the
//! collector reads as something else.

use super::Case;
use crate::check::{config, host};
use crate::operation::yaml;
use crate::support::agent::Agent;
use crate::support::api::Api;

const UPTIM: &str = "KM_MIN_UPTIM is no setting and the config does not refer to it: did you mean KM_MIN_UPTIME?";

#[test]
fn a_variable_that_is_nearly_a_settings_is_a_warning() {
    let case = Case::new("config: config.yaml\nlocal-config: overlay.yaml\n");
    let case_warns = |variables: &[&str]| -> Vec<String> {
        let env: Vec<(&str, &str)> = variables.iter().map(|name| (*name, "a-secret")).collect();
        let output = case.print(&env, &[]);
        assert_eq!(output.code, Some(0), "{output:?}");
        assert!(!output.stderr.contains("a-secret"), "{output:?}");
        output.stderr.lines().map(|line| line.strip_prefix("kmagent: warning: ").unwrap().to_string()).collect()
    };
    let warned = case_warns(&["KM_MIN_UPTIM", "KM_NODE_NAME", "KM_XLOG_PATHS", "KM_", "KM_POD_NAME"]);
    assert_eq!(warned, [] as [&str; 0], "an overlay that cannot be read may refer to it");
    case.file("overlay.yaml", "{}");
    assert_eq!(case_warns(&["KM_MIN_UPTIM", "KM_NODE_NAME", "KM_XLOG_PATHS", "KM_", "KM_POD_NAME"]), [UPTIM]);
    let warned = case_warns(&["KM_API_KY", "KM_HOSTNAME", "KM_LOGLEVEL", "KM_COLECTOR_ENDPIONT"]);
    for (line, meant) in warned.iter().zip(["COLLECTOR_ENDPOINT", "API_KEY", "HOST_NAME", "LOG_LEVEL"]) {
        assert!(warned.len() == 4 && warned.iter().any(|line| line.ends_with(&format!("KM_{meant}?"))), "{line}");
    }
    for (file, text) in [("config.yaml", "a: '${env:KM_MIN_UPTIM:-5}'"), ("overlay.yaml", "b: [x$${x}${KM_MIN_UPTIM}]")]
    {
        case.file(file, text);
        assert_eq!(case_warns(&["KM_MIN_UPTIM"]), [] as [&str; 0], "{file} refers to it");
        case.file(file, "{}");
    }
    assert_eq!(case_warns(&["KM_MIN_UPTIM"]), [UPTIM]);
}

#[test]
fn a_key_that_the_collector_reads_as_something_else_is_a_warning() {
    let case = Case::new("");
    for (key, form) in [
        ("key$$one", "$$ in it becomes $"),
        ("key${HOME}one", "${…} in it is expanded"),
        ("?", "it is a YAML mapping with a key that is no text"),
    ] {
        let output = case.print(&[("KM_API_KEY", key)], &[]);
        assert!(output.stderr.contains("${env:KM_API_KEY}: ") && output.stderr.contains(form), "{output:?}");
        assert!(output.code == Some(0) && !output.stderr.contains("one"), "{output:?}");
        // Wherever it comes from.
        case.file("api-key", &format!("{key}\n"));
        assert_eq!(case.print(&[], &[]).stderr, output.stderr);
    }
    case.file("api-key", "key$one\n");
    assert_eq!(case.print(&[], &[]).stderr, "");
}

#[test]
fn a_start_and_a_check_warn_too() {
    let api = Api::plain();
    let agent =
        Agent::builder().env("KM_MIN_UPTIM", "1s").setting("api-key", "a$$b").config(yaml(&config("one"))).spawn();
    agent.wait_log("the variable", |line| line.level() == "warn" && line.field("problem") == UPTIM);
    agent.wait_log("the key", |line| line.field("problem").contains("$$ in it becomes $"));
    agent.wait_status("an agent", |_| true);
    assert_eq!(agent.stop(), 0);

    api.answer_config(config("one"));
    let agent = host(&api).env("KM_MIN_UPTIM", "1s").setting("api-key", "a$$b").config(yaml(&config("one"))).build();
    let output = agent.run(["--check"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.contains(UPTIM) && output.stderr.contains("$$ in it becomes $"), "{output:?}");
}
