//! YAML that multiplies itself. The API cannot send any: it sends JSON, and what is rendered from that has neither
//! anchors nor aliases. An operator can leave some on the disk, where the agent reads it too.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::hostile::{Hostile, answer, ok};
use super::{Table, peak, reported, settled};
use crate::support::agent::{Agent, Builder};
use crate::support::bin;

/// By name: YAML of at most 200 KB that would take gigabytes or hours.
fn bombs() -> Vec<(&'static str, String)> {
    let mut levels = String::from("a0: &a0 [x]\n");
    for level in 1..40 {
        let below = format!("*a{}", level - 1);
        levels += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 9].join(", "));
    }
    vec![
        ("a billion laughs", levels),
        ("one list, many times", format!("a: &a [{}1]\nb: [{}*a]\n", "1,".repeat(30_000), "*a,".repeat(30_000))),
        ("one text, many times", format!("a: &a {}\nb: [{}*a]\n", "x".repeat(90_000), "*a,".repeat(30_000))),
        ("one key, many times", format!("a: &a {}\nb: [{}]\n", "x".repeat(90_000), "{*a : 1},".repeat(10_000))),
        ("an alias for itself", "a: &a [*a]\n".into()),
        ("brackets", "[".repeat(100_000)),
        ("braces", "{a: ".repeat(50_000)),
        ("dashes", "- ".repeat(100_000)),
        ("questions", "? ".repeat(100_000)),
        ("merge keys", format!("a: &a {{{}b: 1}}\nc: [{}1]\n", "", "{<<: *a},".repeat(20_000))),
    ]
}

/// A collector that takes any config at once.
fn undemanding(builder: Builder) -> Builder {
    let path = builder.dir().join("collector");
    let script = "#!/bin/sh\ncase $1 in validate | --version) exit 0 ;; esac\necho 'Everything is ready.'\n\
                  trap 'exit 0' TERM\nwhile :; do sleep 0.1; done\n";
    bin::write_program(&path, script);
    builder.collector(path)
}

/// As the active config, as the site's own overlay and as the last known good.
#[test]
fn on_the_disk() {
    let mut table = Table::new("YAML bombs on the disk");
    let (mut worst, mut slowest) = ((0, ""), Duration::ZERO);
    let bombs = bombs();
    let count = bombs.len();
    for (name, bomb) in bombs {
        let server = Hostile::start(None);
        let builder = undemanding(Agent::builder()).setting("update-endpoint", server.url()).config(&bomb);
        let overlay = builder.dir().join("overlay.yaml");
        let builder = builder.setting("config-check-interval", "168h").setting("min-uptime", "100ms");
        let agent = builder.setting("local-config", overlay.display().to_string()).build();
        fs::write(&overlay, &bomb).unwrap();
        fs::create_dir(agent.state_dir()).unwrap();
        fs::write(agent.state_dir().join("last-known-good.yaml"), &bomb).unwrap();
        let began_at = Instant::now();
        agent.spawn();
        agent.wait_status("running", |status| status["collector"]["state"] == "running");
        reported(&agent, 0);
        // Another config: the bomb is compared, kept and replaced.
        let config = json!({"name": "good"});
        server.play(answer(ok(json!({"restart_required": true, "config": config}).to_string())));
        assert!(agent.run(["--check"]).says().contains("installed config"), "{name}");
        assert_eq!(agent.config(), config, "{name}");
        slowest = slowest.max(began_at.elapsed());
        if let Some(peak) = peak(&agent) {
            worst = worst.max((peak, name));
            // Three texts at a time, and for each two bytes an event of the parser at most.
            let most = 3 * 200 * bomb.len() as u64 / 1024 + 16 * 1024;
            assert!(peak < most, "{name}: {peak} KiB, {most} are allowed");
        }
        assert_eq!(agent.stop(), 0, "{name}");
    }
    assert!(slowest < Duration::from_secs(30), "{slowest:?}");
    table.row(&format!(
        "{count} bombs, each in three places; slowest {:.1} s from start to a new config; at most {} KiB: {}",
        slowest.as_secs_f64(),
        worst.0,
        worst.1
    ));
}

#[test]
fn as_the_settings_file() {
    let (mut table, mut slowest) = (Table::new("YAML bombs as the settings file"), Duration::ZERO);
    let agent = Agent::builder().build();
    let bombs = bombs();
    for (name, bomb) in &bombs {
        // Whole where it is short; otherwise as much as is read.
        for text in [bomb.as_str(), &bomb[..bomb.len().min(60_000)]] {
            fs::write(agent.settings_file(), text).unwrap();
            let inner = agent.command(["--print-settings"]);
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c").arg("ulimit -v 262144; exec \"$0\" \"$@\"").arg(inner.get_program()).args(inner.get_args());
            let began_at = Instant::now();
            let output = bin::output(shell);
            slowest = slowest.max(began_at.elapsed());
            assert_eq!(output.code, Some(78), "{name}: {output:?}");
            assert!(output.stderr.lines().all(|line| line.len() < 500), "{name}: {output:?}");
        }
    }
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    table.row(&format!(
        "{} bombs, whole and cut; slowest {:.1} s, within 256 MB of address space",
        bombs.len(),
        slowest.as_secs_f64()
    ));
}

/// What looks like YAML's own syntax in the API's JSON is text to the collector.
#[test]
fn from_the_api() {
    let server = Hostile::start(None);
    let agent = Agent::builder().setting("update-endpoint", server.url()).setting("min-uptime", "100ms");
    let agent = settled(agent.setting("config-check-interval", "168h").config("fake: {}"));
    let config = json!({
        "fake": {}, "a": "&a [*a,*a]", "b": "*a", "<<": {"c": "*a"}, "&d": "!!binary x", "*e": ["*a", "&a", "<<", "%YAML 9.9", "---"],
        "text": "a: &a [x]\nb: *a\n--- !x\n",
    });
    server.play(answer(ok(json!({"restart_required": true, "config": config}).to_string())));
    assert!(agent.run(["--check"]).says().contains("installed config"));
    // The stand-in reads it with a YAML reader of its own, as does this.
    assert_eq!(agent.config(), config);
    let text = fs::read_to_string(agent.config_file()).unwrap();
    // The block text apart, nothing begins with what would refer to something.
    let lines = text.lines().take_while(|line| !line.starts_with("text:"));
    let bare = |word: &str| word.starts_with(['&', '*', '!', '%']) || word.starts_with("<<");
    assert!(!lines.flat_map(str::split_whitespace).any(bare), "{text}");
}
