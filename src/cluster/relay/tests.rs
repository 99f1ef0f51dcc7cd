//! The agent's own client against the relay, with a fleet behind it. Time is the tests': a minute passes when they say.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::*;
use crate::cluster::config::GroupConfig;
use crate::cluster::config_map::Found;
use crate::cluster::mailbox::Answer;
use crate::config::value::Revision;
use crate::core::canary::Record;
use crate::core::problems::TimedProblem;
use crate::log::Masked;
use crate::os::unix::files::test_dir::{Dir, write};
use crate::os::wait::wait;
use crate::os::wake_channel;
use crate::settings::{self, Settings};
use crate::source::kloudmate::KloudMate;
use crate::source::report::ConfigState;
use crate::source::{Failure, Report, Response as Said};

const MINUTE: Duration = Duration::from_secs(60);

fn config(text: &str) -> Arc<GroupConfig> {
    Arc::new(GroupConfig::kept(&format!("receivers: {{otlp: {{}}}}\ntext: {text}")).unwrap())
}

type Job = Box<dyn FnOnce(&mut Uptime, &mut Fleet) -> Vec<UpdaterCommand> + Send>;

/// A relay with its owner's loop, and an updater that writes everything at once.
struct Cluster {
    /// As a kubelet has it: `tls.pem` and `token` lead through a link that is replaced.
    dir: Dir,
    address: SocketAddr,
    jobs: wake_channel::Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

/// Certificate and token in a version of a Secret's directory, which the link then leads to.
fn secret(dir: &Dir, version: &str, token: &str) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_string()]).unwrap();
    std::fs::create_dir(dir.join(version)).unwrap();
    write(dir.join(version).join("tls.pem"), &(cert.pem() + &signing_key.serialize_pem()));
    write(dir.join(version).join("token"), &format!("{token}\n"));
    write(dir.join(&format!("{version}.ca")), &cert.pem());
    std::os::unix::fs::symlink(version, dir.join("..next")).unwrap();
    std::fs::rename(dir.join("..next"), dir.join("..data")).unwrap();
}

fn variables<'a>(known: &'a [(&'a str, String)]) -> impl Fn(&str) -> Option<OsString> + 'a {
    |name| known.iter().find(|(own, _)| *own == name).map(|(_, text)| text.into())
}

impl Cluster {
    fn start() -> Cluster {
        let dir = Dir::new();
        secret(&dir, "first", "first-token");
        let path = |name: &str| dir.join("..data").join(name).display().to_string();
        let env = [
            ("KM_API_KEY", "a-key".to_string()),
            ("KM_CLUSTER_NAME", "prod".to_string()),
            ("CONFIGMAP_DAEMONSET_NAME", "configs".to_string()),
            ("KM_RELAY_LISTEN", "127.0.0.1:0".to_string()),
            ("KM_RELAY_CERTIFICATE", path("tls.pem")),
            ("KM_RELAY_TOKEN_FILE", path("token")),
        ];
        let (resolved, cluster) = settings::resolve_cluster(&[], &variables(&env)).unwrap();
        let mut relay = Relay::bind(&cluster.relay).unwrap();
        let mut fleet = Fleet::new(&resolved.settings, &cluster, MINUTE);
        let address = relay.server.address().unwrap();
        let (jobs, received) = wake_channel::channel::<Job>().unwrap();
        let thread = thread::spawn(move || {
            let (began_at, mut skipped) = (Instant::now(), Uptime::ZERO);
            loop {
                let until = relay.deadline().and_then(|until| began_at.checked_add(until.saturating_sub(skipped)));
                wait(&[received.waitable()].into_iter().chain(relay.sources()).collect::<Vec<_>>(), until).unwrap();
                let (all, is_closed) = received.drain();
                let mut orders: Vec<_> = all.into_iter().flat_map(|job| job(&mut skipped, &mut fleet)).collect();
                if is_closed {
                    return;
                }
                let now = began_at.elapsed() + skipped;
                orders.extend(relay.turn(now, &mut fleet));
                while let Some(order) = orders.pop() {
                    let UpdaterCommand::Write(write) = order else { panic!("{order:?}") };
                    orders.extend(fleet.written(now, write.workload, write.order));
                }
            }
        });
        Cluster { dir, address, jobs, thread: Some(thread) }
    }

    /// Done when the relay's thread has done it.
    fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Uptime, &mut Fleet) -> (T, Vec<UpdaterCommand>) + Send + 'static,
    ) -> T {
        let (sender, receiver) = mpsc::channel();
        self.jobs.send(Box::new(move |skipped, fleet| {
            let (result, orders) = job(skipped, fleet);
            sender.send(result).unwrap();
            orders
        }));
        receiver.recv().unwrap()
    }

    fn pass(&self, time: Duration) {
        self.run(move |skipped, _| {
            *skipped += time;
            ((), Vec::new())
        });
    }

    fn find(&self, stable: Arc<GroupConfig>) {
        self.run(move |now, fleet| {
            let record = Record { stable: Some(stable.revision.clone()), ..Record::default() };
            let found = Found { record, stable: Some(stable), ..Found::default() };
            ((), fleet.found(*now, Workload::DaemonSet, found))
        });
    }

    fn offer(&self, config: Arc<GroupConfig>) {
        self.run(move |now, fleet| {
            let answer = Answer { restart: true, offers: vec![(Workload::DaemonSet, Ok(config))] };
            ((), fleet.answered(*now, answer))
        });
    }

    fn record(&self) -> Record<Revision> {
        self.run(|_, fleet| (fleet.members()[0].record().unwrap().clone(), Vec::new()))
    }

    fn client(&self, authorities: &str, token: &str, path: &str) -> KloudMate {
        let token_file = self.dir.join(&format!("{token}.pod"));
        write(&token_file, token);
        let endpoint = format!("https://{}/{path}", self.address);
        let env = [
            ("KM_API_KEY", "a-key".to_string()),
            ("KM_UPDATE_ENDPOINT", endpoint.clone()),
            ("KM_UPDATE_TOKEN_FILE", token_file.display().to_string()),
            ("KM_CA_FILE", self.dir.join(authorities).display().to_string()),
            ("KM_POLL_TIMEOUT", "30s".to_string()),
        ];
        let settings: Settings = settings::resolve(&[], &variables(&env)).unwrap().settings;
        KloudMate::new(&settings, &endpoint).unwrap()
    }

    fn pod(&self, name: &str) -> Pod {
        let client = self.client("first.ca", "first-token", "daemonset");
        Pod { name: name.into(), client, active: None, problem: None, rejected: None }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.jobs = wake_channel::channel().unwrap().0;
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking(), "the relay has panicked");
    }
}

/// An agent in a pod, which applies what it is told to at once.
struct Pod {
    name: String,
    client: KloudMate,
    active: Option<Revision>,
    problem: Option<String>,
    rejected: Option<Revision>,
}

impl Pod {
    fn said(&self) -> std::result::Result<Said, Failure> {
        let problem = self.problem.clone().map(|problem| TimedProblem { problem: Masked::from(problem), at: 1 });
        let is_new = self.active.is_none();
        self.client.ask(&Report {
            host_name: "node".into(),
            is_docker: false,
            // Longer than any test.
            uptime: MINUTE * 1000,
            instance_id: Some(self.name.clone()),
            is_collector_running: !is_new,
            collector_version: "v0.135.0".into(),
            collector_restarts: 0,
            problem: problem.as_ref(),
            active: self.active.clone(),
            rejected: self.rejected.as_ref(),
            config_state: if is_new { ConfigState::None } else { ConfigState::Confirmed },
        })
    }

    /// Whether it was given another config.
    fn ask(&mut self) -> bool {
        let said = self.said().unwrap_or_else(|failure| panic!("{}", failure.reason()));
        let Some(offer) = said.offer else { return false };
        assert!(said.restart, "an offer that is meant is to be applied");
        self.active = Some(offer.unwrap().revision);
        true
    }

    fn has(&self, config: &GroupConfig) -> bool {
        self.active.as_ref() == Some(&config.revision)
    }
}

#[test]
fn a_pod_gets_its_config_once_it_is_known() {
    let cluster = Cluster::start();
    let mut pod = cluster.pod("a");
    assert!(!pod.ask(), "it keeps what it has while nothing is known here");
    let stable = config("stable");
    cluster.find(stable.clone());
    assert!(pod.ask() && pod.has(&stable));
    assert!(!pod.ask(), "it has it");
}

#[test]
fn a_new_config_goes_to_one_pod_first_and_then_to_all() {
    let cluster = Cluster::start();
    let (stable, candidate) = (config("stable"), config("candidate"));
    cluster.find(stable.clone());
    let mut pods = ["a", "b", "c", "d"].map(|name| cluster.pod(name));
    for pod in &mut pods {
        assert!(pod.ask() && pod.has(&stable));
    }
    cluster.offer(candidate.clone());
    let mut shares = vec![0];
    for _ in 0..20 {
        cluster.pass(MINUTE);
        for pod in &mut pods {
            pod.ask();
        }
        let share = pods.iter().filter(|pod| pod.has(&candidate)).count();
        if share != *shares.last().unwrap() {
            shares.push(share);
        }
    }
    assert_eq!(shares, [0, 1, 4], "the canary, which is a quarter, and all");
    assert_eq!(cluster.record().stable, Some(candidate.revision.clone()));
}

#[test]
fn a_config_that_the_canary_rejects_reaches_no_other_pod() {
    let cluster = Cluster::start();
    let (stable, candidate) = (config("stable"), config("candidate"));
    cluster.find(stable.clone());
    let mut pods = ["a", "b", "c", "d"].map(|name| cluster.pod(name));
    for pod in &mut pods {
        assert!(pod.ask());
    }
    cluster.offer(candidate.clone());
    let mut canaries = 0;
    for _ in 0..20 {
        cluster.pass(MINUTE);
        for pod in &mut pods {
            if pod.ask() && pod.has(&candidate) {
                canaries += 1;
                pod.active = Some(stable.revision.clone());
                pod.rejected = Some(candidate.revision.clone());
                pod.problem = Some("the collector ended with exit code 1".into());
            }
        }
    }
    assert_eq!(canaries, 1);
    let record = cluster.record();
    assert_eq!((record.stable.as_ref(), record.candidate), (Some(&stable.revision), None));
    let rejection = record.rejected.unwrap();
    assert_eq!(rejection.revision, candidate.revision);
    assert!(rejection.reason.contains("the collector ended with exit code 1"), "{}", rejection.reason);
}

#[test]
fn who_may_not_ask_is_told_why() {
    let cluster = Cluster::start();
    for (authorities, token, path, expected) in [
        ("first.ca", "wrong", "daemonset", ["HTTP status 401", "relay-token-file"]),
        ("first.ca", "wrong", "", ["HTTP status 401", "relay-token-file"]),
        ("first.ca", "first-token", "deployment", ["HTTP status 404", "set its configmap-deployment-name"]),
        ("first.ca", "first-token", "others", ["HTTP status 404", ""]),
    ] {
        let pod = Pod { client: cluster.client(authorities, token, path), ..cluster.pod("a") };
        let failure = pod.said().unwrap_err();
        let told = format!("{} {:?}", failure.reason(), failure.answer);
        assert!(expected.iter().all(|text| told.contains(text)), "{path}: {told}");
    }
    let pod = Pod { name: "not a name".into(), ..cluster.pod("") };
    assert!(format!("{:?}", pod.said().unwrap_err().answer).contains("names the pod"));
}

#[test]
fn a_secret_that_is_renewed_is_used_within_a_minute() {
    let cluster = Cluster::start();
    let former = cluster.pod("a");
    assert!(former.said().is_ok());
    secret(&cluster.dir, "second", "second-token");
    cluster.pass(LOOK_INTERVAL);
    let renewed = Pod { client: cluster.client("second.ca", "second-token", "daemonset"), ..cluster.pod("b") };
    assert!(renewed.said().is_ok());
    assert!(former.said().is_err(), "another certificate");
    let half = Pod { client: cluster.client("second.ca", "first-token", "daemonset"), ..cluster.pod("c") };
    assert!(half.said().unwrap_err().reason().contains("401"));
    // What cannot be used changes nothing.
    write(cluster.dir.join("second/tls.pem"), "");
    write(cluster.dir.join("second/token"), "");
    cluster.pass(LOOK_INTERVAL);
    assert!(renewed.said().is_ok());
}

#[test]
fn what_cannot_be_served_is_refused_at_the_start() {
    let dir = Dir::new();
    secret(&dir, "first", "a-token");
    let path = |name: &str| Some(dir.join("..data").join(name));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (free, taken): (SocketAddr, _) = ("127.0.0.1:0".parse().unwrap(), taken.local_addr().unwrap());
    for (listen, certificate, token_file, expected) in [
        (free, path("tls.pem"), path("token"), None),
        (free, None, path("token"), None),
        (free, path("missing"), path("token"), Some("relay-certificate")),
        (free, path("token"), path("token"), Some("relay-certificate")),
        (free, path("tls.pem"), path("missing"), Some("relay-token-file")),
        (free, path("tls.pem"), None, Some("relay-token-file")),
        (taken, path("tls.pem"), path("token"), Some("relay-listen 127.0.0.1:")),
    ] {
        let error =
            Relay::bind(&RelaySettings { listen, certificate, token_file }).err().map(|error| error.to_string());
        match (&error, expected) {
            (Some(error), Some(expected)) => assert!(error.contains(expected), "{error}"),
            _ => assert_eq!(error.as_deref(), expected),
        }
    }
}
