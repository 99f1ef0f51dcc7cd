//! A hand-over inside the systemd unit, with all of its hardening, under load.

use serde_json::json;

use super::machine::{Machine, Network};
use crate::handover::load::{Load, Mode, Report};
use crate::handover::sink::Sink;
use crate::handover::{Ports, assert_seamless, counted, named, real_config};
use crate::support::api::Api;
use crate::support::wait::{DEADLINE, poll_for, wait_until};
use crate::support::{bin, needs};

#[test]
fn a_change_costs_no_client_anything_inside_the_unit() {
    if !needs::root() {
        return;
    }
    let (api, sink, ports) = (Api::plain(), Sink::start(), Ports::free());
    let template = real_config(ports, &sink);
    let machine = Machine::boot(Network::Shared, &bin::collector());
    machine.config(&named(&template, "first"));
    // Long enough for a real collector to start on a host that is busy with tests; the drain's is the default.
    machine.settings(&json!({"update-endpoint": api.url(), "config-check-interval": "1s", "min-uptime": "3s"}));
    machine.does("systemctl start kmagent");
    machine.wait_running();
    let agent = machine.processes(super::machine::AGENT)[0];
    // As the unit has it, not as the container would.
    let confined = machine.does(&format!("grep -E '^(NoNewPrivs|Seccomp|CapEff|Uid):' /proc/{agent}/status"));
    let uid = machine.does("id -u kmagent");
    let expected = format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t0000000000000404\nNoNewPrivs:\t1\nSeccomp:\t2");
    assert_eq!(confined, expected);
    let loads = Load::start_all([(Mode::Grpc, ports.grpc, 50, 1), (Mode::New, ports.http, 200, 4)]);
    for name in ["second", "third"] {
        let before = machine.status()["config"]["revision"].clone();
        api.answer_config(named(&template, name));
        let status = machine.wait_for("verdict on the new config", || {
            let status = machine.wait_running();
            (status["config"]["revision"] != before && status["last_error_message"] == "").then_some(status)
        });
        assert_eq!(status["config"]["changed_by"], "hand-over", "{status}");
        wait_until("records by way of the new config", || sink.came_by(name));
    }
    let reports = counted("2 changes inside the systemd unit", loads);
    machine.does("systemctl stop kmagent");
    assert_eq!(machine.property("kmagent", "Result"), "success");
    assert_seamless(&reports, 2);
    let acknowledged = || reports.iter().flat_map(Report::acknowledged_numbers);
    poll_for(DEADLINE, || sink.missing(acknowledged()).is_empty().then_some(()));
    assert!(sink.missing(acknowledged()).is_empty() && sink.repeated().is_empty());
}
