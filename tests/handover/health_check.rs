//! A health check whose address changes, so that both collectors listen at its port, on different addresses: it is
//! asked where only the new one answers.

use std::net::TcpListener;
use std::thread;

use rustix::thread::UnshareFlags;
use serde_json::{Value, json};

use super::Scene;
use super::plain::changed_by;
use crate::support::agent::Builder;
use crate::support::{machine, needs};

fn quick(builder: Builder) -> Builder {
    builder.setting("min-uptime", "300ms")
}

/// The config of that name with another health check.
fn config(scene: &Scene, name: &str, host: &str, transport: &str) -> Value {
    let mut config = scene.config(name);
    let endpoint = format!("{host}:{}", scene.ports.health);
    config["extensions"]["health_check"] = json!({"endpoint": endpoint, "transport": transport});
    config
}

#[track_caller]
fn has_ipv6() -> bool {
    needs::that(TcpListener::bind("[::1]:0").is_ok(), "this host has no IPv6")
}

/// The real collector listens as Go does: `0.0.0.0` is IPv6 too.
#[test]
fn one_that_widens_and_narrows_is_handed_over_to() {
    if machine::skips_hand_over() {
        return;
    }
    let scene = Scene::new("handover");
    for (name, host) in [("wider", "0.0.0.0"), ("narrower", "127.0.0.1")] {
        assert_eq!(changed_by(&scene, name, config(&scene, name, host, "tcp")), "hand-over", "{host}");
    }
    assert!(!scene.agent.log().iter().any(|line| line.msg().starts_with("config rolled back")));
}

/// Each pair of addresses that share a port.
#[test]
fn its_address_may_change_to_any_other_of_this_host() {
    if machine::skips_hand_over() || !has_ipv6() {
        return;
    }
    let scene = Scene::with_stand_in("handover", quick);
    for (number, (host, transport)) in [
        ("[::]", "tcp"),
        ("[::1]", "tcp"),
        ("0.0.0.0", "tcp4"),
        ("[::]", "tcp"),
        ("localhost", "tcp"),
        ("[::1]", "tcp6"),
        ("", "tcp"),
        ("127.0.0.1", "tcp4"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("change {number}");
        assert_eq!(changed_by(&scene, &name, config(&scene, &name, host, transport)), "hand-over", "{host}");
    }
    assert!(!scene.agent.log().iter().any(|line| line.msg().starts_with("config rolled back")));
}

/// The old one at that port is well.
#[test]
fn one_that_widens_and_is_ill_is_rolled_back_all_the_same() {
    if machine::skips_hand_over() || !has_ipv6() {
        return;
    }
    let scene = Scene::with_stand_in("handover", quick);
    let mut ill = config(&scene, "ill", "0.0.0.0", "tcp");
    ill["fake"]["health_status"] = 503.into();
    scene.bad_change(ill, "answered 503");
    assert_eq!(scene.agent.count_log(|line| line.msg() == "config installed"), 1, "it was tried by restart too");
}

/// Of IPv6 alone, on a host with no address but the loopback's: a restart at once, before anything is tried.
#[test]
fn where_no_address_reaches_only_one_the_change_is_a_restart_from_the_beginning() {
    if machine::skips_hand_over() || !needs::root() || !has_ipv6() {
        return;
    }
    thread::scope(|scope| {
        let in_network_of_its_own = scope.spawn(|| {
            // The thread's network and nothing else, so no memory and no descriptor is another's.
            #[allow(deprecated)]
            rustix::thread::unshare(UnshareFlags::NEWNET).unwrap();
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.expect("ip is missing").success());
            let scene = Scene::with_stand_in("handover", quick);
            for (name, host, expected) in [
                ("to six", "[::1]", "hand-over"),
                (
                    "wider",
                    "[::]",
                    "restart (no address of this host reaches only one collector's health check at [::]:",
                ),
                ("narrower", "[::1]", "hand-over"),
            ] {
                let words = changed_by(&scene, name, config(&scene, name, host, "tcp6"));
                assert!(words.starts_with(expected), "{host}: {words}");
            }
            let log = scene.agent.log();
            assert!(!log.iter().any(|line| line.msg().starts_with("config rolled back")));
        });
        in_network_of_its_own.join().unwrap();
    });
}
