//! A host whose clock is wrong: without a battery it starts in 1970, and no certificate is valid then. The message must
//! tell that from a bad certificate, and nothing else may depend on the date.
//!
//! The clock is a library in front of libc, so the agent here is always the one that cargo has built: what ships is
//! static.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::date_time_ymd;
use serde_json::json;

use super::hostile::{Hostile, answer, ok};
use super::tls::{Authority, trusting};
use super::{KEY, Most, Table, reported, settled};
use crate::support::agent::{Agent, Builder};
use crate::support::temp_dir::TempDir;

/// Seconds are added to the real time that the file says, as often as it is asked for.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    const char *name = getenv("CLOCK_FILE");
    int file = clock == CLOCK_REALTIME && name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        char text[32] = {0};
        if (read(file, text, sizeof text - 1) > 0)
            time->tv_sec += atoll(text);
        close(file);
    }
    return result;
}
"#;

fn library(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    fs::write(&source, SOURCE).unwrap();
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    assert!(command.status().expect("no C compiler").success());
    library
}

fn now() -> i64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64
}

/// Days since 1970 in seconds, of the first of January.
fn year(year: i64) -> i64 {
    let before = year - 1;
    ((year - 1970) * 365 + (before / 4 - before / 100 + before / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400)) * 86_400
}

struct Clock {
    dir: TempDir,
    library: PathBuf,
}

impl Clock {
    fn new() -> Clock {
        let dir = TempDir::new();
        let library = library(dir.path());
        Clock { dir, library }
    }

    fn set(&self, at: i64) {
        // Replaced as a whole, since it is read all the time.
        let (new, file) = (self.dir.join("new"), self.dir.join("offset"));
        fs::write(&new, (at - now()).to_string()).unwrap();
        fs::rename(new, file).unwrap();
    }

    fn on(&self, builder: Builder) -> Builder {
        let builder = builder.program(env!("CARGO_BIN_EXE_kmagent")).setting("api-key", KEY);
        let builder = builder.env("LD_PRELOAD", self.library.display().to_string());
        builder.env("CLOCK_FILE", self.dir.join("offset").display().to_string())
    }
}

#[test]
fn a_certificate_and_a_clock_that_do_not_agree() {
    let mut table = Table::new("clocks and certificates");
    let (clock, authority) = (Clock::new(), Authority::new());
    let server = Hostile::start(Some(authority.server(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2400, 1, 1);
    })));
    let host = || {
        let builder = trusting(&authority)(clock.on(Agent::builder())).setting("config-check-interval", "168h");
        // By such a clock a config has been active for long; that a check confirms it is a line for whoever debugs.
        let builder = builder.setting("log-level", "info");
        builder.setting("update-endpoint", server.url()).config("fake: {}")
    };
    clock.set(60);
    let (agent, alone) = (host().spawn(), host().build());
    let pid = agent.wait_start(1);
    let too_early = "the server's certificate is valid from 2020-01-01 only; this host's clock says ";
    let cases = [
        // The first minute of 1970, and what a reader must be asked to do.
        (60, too_early, "1970-01-01, which is wrong: set it"),
        (year(2000), too_early, "2000-01-01, which is wrong: set it"),
        (year(2019) + 364 * 86_400, too_early, "2019-12-31, which is wrong: set it"),
        // Valid by then, but before this program was written: the certificate is not refused.
        (year(2025), "", ""),
        (now(), "", ""),
        (year(2399), "", ""),
        (year(2500), "the server's certificate expired on 2400-01-01; this host's clock says ", "2500-01-01"),
        // After what 32 bits can count.
        (year(2106) + 86_400 * 60, "", ""),
    ];
    let mut most = Most::default();
    for (at, says, then) in cases {
        clock.set(at);
        for output in [most.check(&agent).0, alone.run(["--check"])] {
            if says.is_empty() {
                assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{at}");
            } else {
                output.fails(75, &format!("{says}{then}"));
            }
        }
        assert_eq!(agent.collectors(), [pid]);
    }
    // A session that is resumed (RFC 8446, section 2.2) needs no certificate: who has been trusted stays so.
    clock.set(60);
    assert_eq!(agent.run(["--check"]).says(), "");
    alone.run(["--check"]).fails(75, too_early);
    let count = cases.len() + 1;
    table.row(&format!(
        "{count} cases, each resident and alone, the clock jumping between them; most memory {} KiB",
        most.0
    ));
    assert_eq!(agent.stop(), 0);
}

/// Everything else works in 1970, and goes on when the clock is set.
#[test]
fn nothing_else_depends_on_the_date() {
    let clock = Clock::new();
    let server = Hostile::start(None);
    clock.set(1);
    let builder = clock.on(Agent::builder()).setting("update-endpoint", server.url()).setting("min-uptime", "1s");
    let agent = settled(builder.setting("config-check-interval", "168h").config("fake: {}"));
    let wanted =
        |name: &str, fake: serde_json::Value| json!({"restart_required": true, "config": {"fake": fake, "name": name}});
    let names = ["a", "b", "c", "d"];
    for (name, at) in names.into_iter().zip([10, now(), 20, year(2300)]) {
        clock.set(at);
        server.play(answer(ok(wanted(name, json!({})).to_string())));
        let seen = agent.log().len();
        assert!(agent.run(["--check"]).says().contains("installed config"), "{name}");
        reported(&agent, seen);
        // A roll back, and what is remembered of it.
        let seen = agent.log().len();
        server.play(answer(ok(wanted(&format!("bad {name}"), json!({"start": {"exit": 1}})).to_string())));
        agent.run(["--check"]).fails(65, "was rolled back");
        reported(&agent, seen);
        agent.run(["--check"]).fails(65, "is rejected");
        assert_eq!(agent.config()["name"], name);
        assert!(agent.status().unwrap()["last_error_message"].as_str().unwrap().contains("rejected"));
    }
    assert_eq!(agent.stop(), 0);
    assert_eq!(agent.count_log(|line| line.level() == "error" && line.text.contains("bug")), 0);
}
