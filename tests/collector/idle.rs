//! Between polls nothing happens: a collector that has nothing to say does not wake its agent.

use std::time::Duration;

use super::{Site, settled};
use crate::support::wait::{holds_for, poll_for};
use crate::support::{machine, otlp, process};

/// How long the agent is watched: a tick of a second or less would show.
const SPAN: Duration = Duration::from_secs(4);

#[test]
fn an_agent_with_a_quiet_collector_does_not_run_between_polls() {
    let site = Site::new();
    let agent = settled(site.builder().setting("config-check-interval", "168h"), &site.config());
    site.api.wait_for_request("the first poll", |_| true);
    site.delivers(&agent, "before");
    let switches = || process::context_switches(agent.pid());
    let at_rest = agent.wait_for("an agent at rest", || {
        let before = switches();
        poll_for(Duration::from_millis(300), || (switches() != before).then_some(())).is_none().then_some(before)
    });
    let written = process::io(agent.pid());
    // Telemetry goes past the agent.
    for number in 0..20 {
        otlp::send_log(site.otlp, &format!("telemetry {number}")).unwrap();
        holds_for("no poll", SPAN / 20, || site.api.requests().len() == 1);
    }
    assert_eq!(switches(), at_rest, "{:?}", process::tasks(agent.pid()));
    assert_eq!(process::io(agent.pid()), written);
    // qemu has one thread of its own.
    let threads = if machine::emulator().is_some() { 3 } else { 2 };
    assert_eq!(process::tasks(agent.pid()).len(), threads);

    // The control: what is counted does count.
    process::signal(agent.wait_collector(), rustix::process::Signal::KILL);
    agent.wait_until("the agent to run", || switches() > at_rest);
}
