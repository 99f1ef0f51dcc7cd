//! Every way out, with configs whose secrets are made up: nothing of one leaves, in whatever form it is quoted.

use std::time::Duration;

use crate::config::inspect;
use crate::config::value::Value;
use crate::control::{CheckResult, Outcome, Reply};
use crate::core::problems::TimedProblem;
use crate::log::Masked;
use crate::log::masked::{self, Holder};
use crate::log::redact::Secrets;
use crate::source::report::ConfigState;
use crate::source::{Report, report};
use crate::store::record::Rejected;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn text(&mut self, alphabet: &[char], length: usize) -> String {
        (0..length).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }
}

/// As Go's `%q` writes it, and JSON, `%q` in JSON, url.QueryEscape, and Python's urllib in lower case.
fn quoted(secret: &str) -> Vec<String> {
    let go = format!("{secret:?}").replace("\\'", "'");
    let json = serde_json::to_string(secret).unwrap();
    let html = json.replace('<', "\\u003c").replace('&', "\\u0026");
    let percent = |upper: bool| {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            byte if upper => format!("%{byte:02X}"),
            byte => format!("%{byte:02x}"),
        };
        secret.bytes().map(byte).collect::<String>()
    };
    let nested = serde_json::to_string(&format!("parsing {go}: bad")).unwrap();
    vec![secret.to_owned(), go, json, html, percent(true), percent(false), nested]
}

/// A config with `secret` in it, in one way or another.
fn place(random: &mut Random, secret: &str) -> String {
    let text = serde_json::to_string(secret).unwrap().replace('$', "$$");
    let inner = &text[1..text.len() - 1];
    match random.below(10) {
        0 => format!(r#"{{"exporters": {{"x": {{"headers": {{"X-Custom": {text}}}}}}}}}"#),
        1 => format!(r#"{{"exporters": {{"x::headers::X-Custom": {text}}}}}"#),
        2 => format!(r#"{{"exporters": {{"x": {{"Password": [{text}]}}}}}}"#),
        3 => format!(r#"{{"exporters": {{"x": {{"endpoint": "http://user:{inner}@host/path"}}}}}}"#),
        4 => format!(
            r#"{{"exporters": {{"x": {{"endpoints": "http://u:{inner}@host-of-one,http://u:other-pw@host-of-two"}}}}}}"#
        ),
        5 => format!(r#"{{"receivers": {{"x": {{"dsn": "user:{inner}@tcp(db:3306)/x"}}}}}}"#),
        6 => format!(r#"{{"receivers": {{"x": {{"datasource": "host=db Password={inner}"}}}}}}"#),
        7 => r#"{"receivers": {"x": {"anything": "a ${env:KM_TEST_SECRET} b"}}}"#.to_owned(),
        8 => r#"{"receivers": {"x": {"anything": "${KM_TEST_SECRET}"}}}"#.to_owned(),
        _ => r#"{"receivers": {"x": {"anything": "${env:KM_TEST_${env:KM_TEST_NAME}}"}}}"#.to_owned(),
    }
}

#[test]
fn no_secret_leaves_by_any_way_in_any_form() {
    let marker: Vec<char> = ('a'..='z').chain('0'..='9').collect();
    let odd: Vec<char> = r##"!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~é"##.chars().collect();
    for seed in 1..=600_u64 {
        let mut random = Random(seed);
        // The first numbers of neighbours are alike.
        random.text(&marker, 20);
        let mark = random.text(&marker, 12);
        let (before, after) = (random.below(3), random.below(3));
        let secret = format!("m{}{mark}{}z", random.text(&odd, before), random.text(&odd, after));
        let env = |name: &str| match name {
            "KM_TEST_SECRET" => Some(secret.clone()),
            "KM_TEST_NAME" => Some("SECRET".to_owned()),
            _ => None,
        };
        let text = place(&mut random, &secret);
        let config: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        masked::know(Holder::Candidate, Secrets::new(inspect::secrets(&config, &env)));
        let said: Vec<String> =
            quoted(&secret).iter().map(|secret| format!("ordinary words about {secret} here")).collect();
        for said in said {
            for out in ways_out(&said) {
                let context = format!("seed {seed}: {text}\n{said}\n{out}");
                assert!(!out.contains(&mark), "{context}");
                assert!(out.contains("ordinary words about ") && out.contains("****"), "{context}");
            }
        }
    }
}

/// What leaves when this is said: reports, replies, state files, the log in both formats.
fn ways_out(said: &str) -> Vec<String> {
    let timed = TimedProblem { problem: Masked::new(said), at: 1 };
    let report = Report {
        host_name: "web-1".to_owned(),
        is_docker: false,
        uptime: Duration::ZERO,
        instance_id: None,
        is_collector_running: true,
        collector_version: String::new(),
        collector_restarts: 0,
        problem: Some(&timed),
        active: None,
        rejected: None,
        config_state: ConfigState::None,
    };
    let body = crate::source::kloudmate::request::encode(&report);
    let reply = Reply::Checked(Outcome::done(CheckResult::Unchanged, said)).line();
    let revision = Value::Null.revision();
    let rejected = Rejected { at: 1, ..Rejected::new(revision, said) };
    let read_back: Rejected = serde_json::from_value(serde_json::json!({
        "revision": rejected.revision, "problem": said, "at": 1
    }))
    .unwrap();
    let mut all = vec![report::message(&timed).to_string(), read_back.problem.to_string()];
    all.extend([body, reply, serde_json::to_vec(&rejected).unwrap()].map(|it| String::from_utf8(it).unwrap()));
    all.extend(crate::log::rendered(said));
    all
}
