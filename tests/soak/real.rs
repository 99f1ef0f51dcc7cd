//! The real collector under load, and a change every ten seconds: an hour of it in the long form.

use std::time::{Duration, Instant};

use super::feed::{Fate, Feed, is_promotion};
use super::gauge::{Gauge, anonymous};
use super::is_long;
use crate::handover::load::{Load, Mode, Report};
use crate::handover::sink::Sink;
use crate::handover::{Ports, assert_seamless, counted, named, real_config};
use crate::support::bin;
use crate::support::wait::poll_for;

const CHANGE_EVERY: Duration = Duration::from_secs(10);

/// How many changes are made in the time there is.
fn changes() -> usize {
    let minutes = std::env::var("KM_SOAK_MINUTES").ok().map(|text| text.parse().expect("KM_SOAK_MINUTES"));
    let minutes: Option<u64> = minutes.or(is_long().then_some(60));
    minutes.map_or(2, |minutes| (minutes * 60 / CHANGE_EVERY.as_secs()) as usize)
}

#[test]
fn hand_overs_under_load_lose_nothing_and_leave_nothing_behind() {
    let count = changes();
    let (sink, ports) = (Sink::start(), Ports::free());
    let template = real_config(ports, &sink);
    let feed = Feed::start(move |number| (named(&template, &format!("change {number}")), Fate::Promoted));
    let builder = feed.builder().collector(bin::collector()).setting("restart-mode", "handover");
    let agent = builder.setting("min-uptime", "2s").setting("stop-timeout", "30s").spawn();
    agent.wait_log("a first config that has proved itself", is_promotion);
    let loads = Load::start_all([
        (Mode::Grpc, ports.grpc, 20, 1),
        (Mode::Http, ports.http, 20, 1),
        (Mode::New, ports.http, 40, 2),
    ]);
    let (began_at, mut gauge) = (Instant::now(), Gauge::default());
    for number in 1..=count {
        let due_at = began_at + CHANGE_EVERY * number as u32;
        feed.allow(number);
        agent.wait_until("the change", || {
            // Proved, reported, and the old one gone.
            feed.reported() == number && agent.count_log(is_promotion) == number + 1 && agent.collectors().len() == 1
        });
        agent.wait_until("records by way of the new config", || sink.came_by(&format!("change {number}")));
        // The end of the first change is the first moment with all that a change leaves.
        let is_reported = number <= 2 || number % 6 == 0 || number == count;
        let collector = agent.collectors().into_iter().map(anonymous).sum::<u64>();
        let title = format!("{number:>4} changes under load, the collector's RssAnon {collector} KiB");
        if is_reported {
            gauge.look(&agent, &title)
        } else {
            gauge.look_quietly(&agent)
        }
        // Until the next one is due.
        poll_for(due_at.saturating_duration_since(Instant::now()), || agent.exit_status().map(drop));
    }
    gauge.assert_level();
    let seconds = began_at.elapsed().as_secs();
    let reports = counted(&format!("soak, {count} changes in {seconds} s"), loads);
    assert_seamless(&reports, count);
    let [promoted, ..] = feed.assert_accounts(&agent);
    assert_eq!(promoted, count + 1);
    let handed_over = agent.count_log(|line| line.msg() == "new connections go to the new collector");
    assert_eq!(handed_over, count, "hand-overs");
    let acknowledged = || reports.iter().flat_map(Report::acknowledged_numbers);
    // It drains what it holds.
    assert_eq!(agent.stop(), 0);
    poll_for(Duration::from_secs(5), || sink.missing(acknowledged()).is_empty().then_some(()));
    let (missing, repeated) = (sink.missing(acknowledged()), sink.repeated());
    assert!(missing.is_empty(), "acknowledged, but lost: {missing:?}");
    assert!(repeated.is_empty(), "came more than once: {repeated:?}");
    assert_eq!(agent.processes(), [0; 0], "left running");
}
