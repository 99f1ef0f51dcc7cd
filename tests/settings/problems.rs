//! Settings that are wrong: every problem at once, each with the place to go to, and nothing is done.

use super::Case;

#[test]
fn all_problems_are_reported_together_with_their_lines() {
    let case = Case::new(
        "# line 1\n\
         colector: /x\n\
         stop-timeout: soon\n\
         \n\
         docker-mode: perhaps\n\
         config: [a, b]\n\
         agent-config: /y\n\
         stop-timeout: 3s\n\
         api-key: k\u{fc}\n",
    );
    let path = case.dir.join("agent.yaml").display().to_string();
    let output = case.print(&[("KM_LOG_LEVEL", "loud")], &["--max-config-size=1", "--min-uptime=-5"]);
    output.fails(78, "");
    let expected = [
        "KM_LOG_LEVEL: \"loud\" is not a log level: it takes error, warn, info or debug".to_string(),
        "--min-uptime: \"-5\" is negative: give a positive duration".to_string(),
        "--max-config-size: \"1\" is out of range: it takes 1KiB to 64MiB".to_string(),
        format!("{path}:2: unknown key \"colector\": did you mean \"collector\"?"),
        format!("{path}:3: stop-timeout: \"soon\" is not a duration"),
        format!("{path}:5: docker-mode: \"perhaps\" is neither true nor false"),
        format!("{path}:6: config is a list or a mapping: give a single value"),
        format!("{path}:7: agent-config names this file, so it cannot be set in it"),
        format!("{path}:8: duplicate key \"stop-timeout\": it is already on line 3"),
        format!("{path}:9: api-key: the value contains "),
    ];
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{}", output.stderr);
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(&format!("kmagent: {expected}")), "{line}\ninstead of {expected}");
    }
    // In the order of the file.
    let numbers: Vec<usize> = lines.iter().filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect();
    assert_eq!(numbers, [2, 3, 5, 6, 7, 8, 9]);
}

#[test]
fn files_that_are_no_settings_file() {
    for (text, expected) in [
        ("run-dir: [\n", "agent.yaml:"),
        ("just text\n", "agent.yaml:1"),
        ("- a\n- b\n", "agent.yaml:1"),
        ("a: 1\n---\nb: 2\n", "agent.yaml"),
        ("config: \"\\xZZ\"\n", "agent.yaml:1"),
    ] {
        let output = Case::new(text).print(&[], &[]);
        output.fails(78, expected);
    }
    let case = Case::new("");
    case.print(&[], &["--agent-config", "/nonexistent/x.yaml"]).fails(78, "/nonexistent/x.yaml: it does not exist");
    case.print(&[], &["--agent-config", "."]).fails(78, "cannot read the settings file");
}

#[test]
fn every_mode_that_needs_settings_refuses_bad_ones() {
    use crate::support::agent::Agent;
    let agent = Agent::builder().setting("no-such-setting", 1).build();
    for args in [vec!["start"], vec!["--check"], vec!["--check", "--dry-run", "--json"], vec!["--print-settings"]] {
        agent.run(args).fails(78, "unknown key \"no-such-setting\"");
    }
    assert!(!agent.run_dir().exists() && !agent.state_dir().exists());
}

#[test]
fn a_value_that_a_higher_source_outranks_is_checked_all_the_same() {
    let case = Case::new("log-level: loud\n");
    case.print(&[("KM_LOG_LEVEL", "debug")], &[]).fails(78, "log-level: \"loud\" is not a log level");
}
