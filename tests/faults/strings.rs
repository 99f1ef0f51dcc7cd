//! Texts of the API's and the collector's, in every place where they are shown: they forge no line and drive no
//! terminal.

use std::fs;
use std::os::unix::net::UnixDatagram;

use serde_json::{Value, json};

use super::hostile::{Hostile, answer, ok, response};
use super::{KEY, Table, is_dangerous, reported, settled};
use crate::support::agent::{Agent, Builder, Line};
use crate::support::bin;
use crate::support::{needs, process};

/// Line breaks of every kind with a line of ours behind each, a terminal's sequences in C0 and C1, DEL, what reorders
/// text, and what is not seen at all.
const NASTY: &str = "begin\n2026-01-01T00:00:00.000Z ERROR supervise: forged\r\n{\"level\":\"error\",\"msg\":\"forged\"}\r\
                     kmagent: forged\u{b}\u{c}\u{85}\u{2028}\u{2029}polling    forged\n\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\u{90}q\u{7f}\0\
                     \u{202e}\u{202a}\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}\u{e0041}\u{feff}end";

/// The same as bytes, with some that are no text.
fn nasty_bytes() -> Vec<u8> {
    [NASTY.as_bytes(), b"\x9b31m\xff\n", NASTY.as_bytes(), b"\n"].concat()
}

/// A collector that prints `nasty` where its directory has a file of that name: `validate` refuses then, `run` dies of
/// it.
fn foul(builder: Builder) -> Builder {
    let dir = builder.dir().to_path_buf();
    let path = dir.join("collector");
    let script = format!(
        "#!/bin/sh\ncd {}\ncase $1 in\n--version) cat bytes; exit 0 ;;\n\
         validate) if [ -e refuse ]; then cat bytes >&2; exit 1; fi; exit 0 ;;\nesac\n\
         cat bytes >&2\nif [ -e die ]; then exit 3; fi\necho 'Everything is ready.'\ntrap 'exit 0' TERM\nwhile :; do sleep 0.1; done\n",
        dir.display()
    );
    bin::write_program(&path, &script);
    fs::write(dir.join("bytes"), nasty_bytes()).unwrap();
    builder.collector(path)
}

#[track_caller]
fn is_harmless(what: &str, text: &str) {
    let hidden = |c: char| is_dangerous(c) || matches!(c, '\u{e0000}'..='\u{e007f}' | '\u{feff}');
    let found = text.replace(['\n', '\t'], "").chars().find(|c| hidden(*c));
    assert_eq!(found, None, "{what}: {text:?}");
}

fn config(name: &str) -> Value {
    json!({"receivers": {NASTY: {"text": NASTY, "name": name}}})
}

fn wanted(name: &str) -> Vec<u8> {
    ok(json!({"restart_required": true, "config": config(name)}).to_string())
}

/// Everything that an API can say that is repeated somewhere, with the exit status of a check.
fn sayings() -> Vec<(&'static str, Vec<u8>, i32)> {
    let latin = NASTY.replace(['\n', '\r', '\0', '\u{7f}', '\u{7}', '\u{b}', '\u{c}', '\u{1b}'], "");
    let quoted = serde_json::to_string(NASTY).unwrap();
    vec![
        ("an error page", response(500, &[], NASTY), 75),
        ("a refusal", response(401, &[], nasty_bytes()), 77),
        ("a body that is no object", ok(NASTY), 76),
        ("a body that is none, with an escape", ok("\u{1b}[2J\u{202e}"), 76),
        ("a key twice", ok(format!("{{\"config\":{{{quoted}:1,{quoted}:2}}}}")), 76),
        ("a string for a flag", ok(format!("{{\"restart_required\":{quoted}}}")), 76),
        ("a string for a config", ok(format!("{{\"config\":{quoted}}}")), 76),
        ("a place to go", response(302, &[("Location", &format!("https://a.example/{latin}"))], ""), 76),
        ("a place that is none", response(302, &[("Location", &latin)], ""), 76),
        ("an encoding", response(200, &[("Content-Encoding", &latin)], "{}"), 76),
    ]
}

#[test]
fn in_the_log_the_status_and_a_check() {
    let mut table = Table::new("untrusted texts");
    let mut count = 0;
    for format in ["json", "text"] {
        let server = Hostile::start(None);
        let builder = foul(Agent::builder()).setting("update-endpoint", server.url()).setting("api-key", KEY);
        let builder = builder.setting("config-check-interval", "168h").setting("min-uptime", "1s");
        let builder = builder.setting("log-format", format).config("receivers: {}\n");
        let socket = builder.dir().join("notify");
        let notified = UnixDatagram::bind(&socket).unwrap();
        notified.set_nonblocking(true).unwrap();
        let agent = settled(builder.env("NOTIFY_SOCKET", socket.display().to_string()));

        let look = |what: &str, exit: i32| {
            for args in [&["--check"][..], &["--check", "--json"], &["status"], &["status", "--json"]] {
                let output = agent.run(args);
                let expected = if args[0] == "status" { 0 } else { exit };
                assert_eq!(output.code, Some(expected), "{what}: {output:?}");
                is_harmless(&format!("{what}, stdout of {args:?}"), &output.stdout);
                is_harmless(&format!("{what}, stderr of {args:?}"), &output.stderr);
                assert!(output.stderr.lines().all(|line| line.starts_with("kmagent: ")), "{what}: {output:?}");
                match args {
                    ["status"] => {
                        let names = [
                            "agent",
                            "collector",
                            "program",
                            "config",
                            "changed by",
                            "rejected",
                            "pending",
                            "polling",
                            "problem",
                        ];
                        let is_ours = |line: &str| names.iter().any(|name| line.starts_with(&format!("{name:<10} ")));
                        let strange: Vec<_> = output
                            .stdout
                            .lines()
                            .filter(|line| !is_ours(line) && !line.starts_with("           "))
                            .collect();
                        assert_eq!(strange, Vec::<&str>::new(), "{what}");
                        assert_eq!(
                            output.stdout.lines().filter(|line| line.starts_with("polling ")).count(),
                            1,
                            "{what}"
                        );
                    }
                    [_, "--json"] => {
                        serde_json::from_str::<Value>(&output.stdout)
                            .unwrap_or_else(|error| panic!("{what}: {error}: {output:?}"));
                    }
                    _ => {}
                }
            }
        };
        for (what, bytes, exit) in sayings() {
            server.play(answer(bytes));
            look(what, exit);
            count += 1;
        }
        // What the collector says of a config, and what it dies of.
        fs::write(agent.dir().join("refuse"), "").unwrap();
        server.play(answer(wanted("refused")));
        look("a config that the collector refuses", 65);
        fs::remove_file(agent.dir().join("refuse")).unwrap();
        fs::write(agent.dir().join("die"), "").unwrap();
        server.play(answer(wanted("deadly")));
        let seen = agent.log().len();
        assert_eq!(agent.run(["--check"]).code, Some(65));
        reported(&agent, seen);
        fs::remove_file(agent.dir().join("die")).unwrap();
        look("a config that the collector dies of", 65);
        server.play(answer(wanted("good")));
        assert!(agent.run(["--check"]).says().contains("installed config"));
        assert_eq!(agent.config(), config("good"));
        assert_eq!(agent.stop(), 0);

        let lines = agent.log();
        assert!(lines.iter().filter(|line| line.text.contains("forged")).count() > 10, "nothing was tried");
        for line in &lines {
            is_harmless("the log", &line.text);
            if format == "json" {
                assert!(line.json.is_object() && line.msg() != "forged", "{}", line.text);
            } else {
                // What looks like one of ours is, and the collector's that would pass for one says whose it is.
                assert!(!line.text.starts_with("2026-01-01T00:00:00.000Z"), "{}", line.text);
            }
        }
        let forged = |line: &&Line| line.text.starts_with("collector: 2026-01-01T00:00:00.000Z ERROR");
        assert_eq!(lines.iter().find(forged).is_some(), format == "text");

        let mut message = [0; 4096];
        let mut messages = Vec::new();
        while let Ok(length) = notified.recv(&mut message) {
            messages.push(String::from_utf8(message[..length].to_vec()).unwrap());
        }
        assert!(messages.iter().any(|message| message == "STATUS=collector running"), "{messages:?}");
        for message in messages {
            // This one has two assignments, both ours.
            let message = message.strip_prefix("STOPPING=1\nEXTEND_TIMEOUT_USEC=").unwrap_or(&message);
            assert!(!message.contains('\n') && !message.contains("forged"), "{message:?}");
            is_harmless("a notification", message);
        }
        count += 3;
    }
    table.row(&format!("{count} cases: log, status and check in both forms, and the service manager's socket"));
}

/// The one-shot by itself, and a command of the site's that repeats what it reads.
#[test]
fn in_a_check_without_an_agent() {
    let server = Hostile::start(None);
    let build = || foul(Agent::builder()).setting("update-endpoint", server.url()).setting("api-key", KEY);
    let agent = build().config("receivers: {}\n").build();
    for (what, bytes, exit) in sayings() {
        server.play(answer(bytes));
        for args in [&["--check"][..], &["--check", "--json"], &["--check", "--dry-run"]] {
            let output = agent.run(args);
            assert_eq!(output.code, Some(exit), "{what}: {output:?}");
            is_harmless(&format!("{what}, {args:?}"), &(output.stdout + &output.stderr));
        }
    }
    let script = format!("cat {}/bytes >&2; exit 1", agent.dir().display());
    let with_command = build().config("receivers: {}\n").setting("on-change", script).build();
    server.play(answer(wanted("good")));
    for args in [&["--check"][..], &["--check"], &["--check", "--json"]] {
        let output = with_command.run(args);
        assert_eq!(output.code, Some(65), "{output:?}");
        let is_ours = |line: &str| line.starts_with("kmagent: ") || serde_json::from_str::<Value>(line).is_ok();
        assert!(output.stderr.lines().all(is_ours), "{output:?}");
        is_harmless(&format!("{args:?}"), &(output.stdout + &output.stderr));
    }
}

/// Two collectors, two configs: the secrets of the one that goes on are not forgotten when the new one has failed.
#[test]
fn secrets_of_a_collector_that_goes_on_stay_hidden() {
    let server = Hostile::start(None);
    let endpoint = format!("127.0.0.1:{}", process::free_port());
    let config = |name: &str, fake: Value| {
        json!({
            "fake": fake,
            "receivers": {"otlp": {"protocols": {"http": {"endpoint": endpoint}}}},
            "exporters": {"otlphttp": {"endpoint": "http://127.0.0.1:1", "headers": {"x-tenant": format!("SECRET-{name}")}}},
            "service": {"pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["otlphttp"]}}},
        })
    };
    let goodbye = "leaving with SECRET-old and SECRET-bad1";
    let old = config("old", json!({"serve_otlp": true, "goodbye": goodbye}));
    let builder = Agent::builder().setting("update-endpoint", server.url()).setting("min-uptime", "1s");
    let builder = builder.setting("restart-mode", "handover").setting("config-check-interval", "168h");
    let agent = settled(builder.config(serde_yaml::to_string(&old).unwrap()));
    let pid = agent.wait_start(1);
    let refusals = agent.count_log(|line| line.msg().starts_with("hand-over is not available"));
    if !needs::that(refusals == 0, "this host cannot hand over") {
        return;
    }
    for name in ["bad1", "bad2", "bad3"] {
        let stderr = format!("dying with SECRET-{name}");
        let bad = config(name, json!({"start": {"exit": 1}, "stderr": stderr}));
        server.play(answer(ok(json!({"restart_required": true, "config": bad}).to_string())));
        let seen = agent.log().len();
        agent.run(["--check"]).fails(65, "dying with ****");
        reported(&agent, seen);
        assert_eq!(agent.wait_collector(), pid, "the old one was not kept");
    }
    let seen = agent.log().len();
    assert_eq!(agent.stop(), 0);
    // The predecessor's secrets are kept, the first failure's are nobody's any more: not everything is masked.
    agent.wait_log_after(seen, "the goodbye", |line| line.msg() == "leaving with **** and SECRET-bad1");
    let shown = |line: &&Line| line.text.replace("SECRET-bad1", "").contains("SECRET");
    assert_eq!(agent.log().iter().find(shown).map(|line| line.text.clone()), None);
}
