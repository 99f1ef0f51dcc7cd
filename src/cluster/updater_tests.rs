//! The two threads of the updater together, against an API server that fails when it is told to: what the pods are
//! offered, and what the ConfigMap says by then.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::*;
use crate::cluster::fleet::Fleet;
use crate::cluster::kubernetes::{ApiFailure, ConfigMapPatch, Event, LabelSelector, PodPage, WorkloadId};
use crate::cluster::poll::Identity;
use crate::core::canary::{ConfigState, PodId, PodReport};
use crate::os::wait::wait;
use crate::os::wake_channel::{Receiver as Mail, channel};
use crate::settings::cluster::Workload::DaemonSet;

const KEY: &str = "agent-daemonset.yaml";
const STAGE: &str = "kmagent.kloudmate.com/stage";
const REJECTED: &str = "kmagent.kloudmate.com/rejected";
/// More than any step takes; a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Server {
    map: ConfigMap,
    version: u64,
    events: Vec<&'static str>,
    /// What the next calls fail of, the first of them first.
    failures: Vec<Cause>,
    /// The next patch is made, but its answer is lost.
    loses_answer: bool,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Server>>);

impl Shared {
    fn server(&self) -> MutexGuard<'_, Server> {
        self.0.lock().unwrap()
    }

    fn call<T>(&self, call: impl FnOnce(&mut Server) -> kubernetes::Result<T>) -> kubernetes::Result<T> {
        let mut server = self.server();
        match server.failures.is_empty() {
            true => call(&mut server),
            false => Err(failure(server.failures.remove(0))),
        }
    }

    /// As anybody else may.
    fn edit(&self, edit: impl FnOnce(&mut ConfigMap)) {
        let mut server = self.server();
        edit(&mut server.map);
        server.version += 1;
        server.map.metadata.resource_version = server.version.to_string();
    }

    fn annotation(&self, name: &str) -> Option<String> {
        self.server().map.metadata.annotations.get(name).cloned()
    }
}

fn failure(cause: Cause) -> ApiFailure {
    ApiFailure::new(cause, "a call".to_owned(), "a reason")
}

impl Api for Shared {
    fn config_map(&self, _: &Name) -> kubernetes::Result<ConfigMap> {
        self.call(|server| Ok(server.map.clone()))
    }

    fn patch_config_map(&self, _: &Name, patch: &ConfigMapPatch) -> kubernetes::Result<ConfigMap> {
        self.call(|server| {
            if patch.resource_version != server.map.metadata.resource_version {
                return Err(failure(Cause::Conflict));
            }
            server.version += 1;
            let (data, annotations) = (&mut server.map.data, &mut server.map.metadata.annotations);
            for (own, changes) in [(data, &patch.data), (annotations, &patch.annotations)] {
                for (key, value) in changes {
                    match value {
                        Some(value) => _ = own.insert(key.clone(), value.clone()),
                        None => _ = own.remove(key),
                    }
                }
            }
            server.map.metadata.resource_version = server.version.to_string();
            match std::mem::take(&mut server.loses_answer) {
                true => Err(failure(Cause::Unreachable)),
                false => Ok(server.map.clone()),
            }
        })
    }

    fn workload(&self, _: &WorkloadId) -> kubernetes::Result<kubernetes::Workload> {
        unreachable!("the relay does not ask for it")
    }

    fn set_restarted_at(
        &self,
        _: &WorkloadId,
        _: Option<&str>,
        _: Option<&str>,
    ) -> kubernetes::Result<kubernetes::Workload> {
        unreachable!("the relay does not ask for it")
    }

    fn pods(&self, _: &LabelSelector, _: Option<&str>) -> kubernetes::Result<PodPage> {
        unreachable!("the relay does not ask for it")
    }

    fn create_event(&self, event: &Event) -> kubernetes::Result<()> {
        self.server().events.push(event.reason);
        Ok(())
    }

    fn may(&self, _: &Right) -> kubernetes::Result<bool> {
        Ok(true)
    }
}

/// An updater, and one pod that asks it.
struct World {
    server: Shared,
    fleet: Fleet,
    mail: Mail<ClusterEvent>,
    commands: crossbeam_channel::Sender<UpdaterCommand>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// The core's clock, which nothing waits for.
    now: Uptime,
    /// What it says with a rejection.
    problem: &'static str,
}

impl World {
    fn new(server: Shared) -> World {
        let (main, mail) = channel().unwrap();
        let (commands, mailbox) = crossbeam_channel::unbounded();
        let identity = Identity {
            cluster_name: "test".into(),
            logs_enabled: false,
            namespaces: Vec::new(),
            report_extended: false,
        };
        let clock = Instant::now();
        let poll = Poll::new(clock, None, identity, None, 7);
        let groups = vec![(DaemonSet, Name::parse("km").unwrap())];
        let parts = Parts { clock, mailbox, main, api: Box::new(server.clone()), poll, most_yaml: 1 << 20 };
        let updater = Updater::new(parts, groups, 7);
        let thread = Some(std::thread::spawn(move || updater.run()));
        let env = |name: &str| {
            let value = match name {
                "KM_CLUSTER_NAME" => "test",
                "CONFIGMAP_DAEMONSET_NAME" => "km",
                "KM_ALLOW_HTTP" => "true",
                "KM_RELAY_LISTEN" => "127.0.0.1:0",
                "KM_RELAY_TOKEN_FILE" => "/token",
                "KM_ROLLOUT_STEPS" => "100",
                _ => return None,
            };
            Some(value.into())
        };
        let (resolved, cluster) = crate::settings::resolve_cluster(&[], &env).unwrap();
        let fleet = Fleet::new(&resolved.settings, &cluster, Duration::from_secs(60));
        let mut world = World { server, fleet, mail, commands, thread, now: Uptime::ZERO, problem: "it crashed" };
        world.until(|world| world.fleet.is_known());
        world
    }

    fn order(&self, orders: Vec<UpdaterCommand>) {
        for order in orders {
            self.commands.send(order).unwrap();
        }
    }

    /// What the other thread sends is taken until this holds.
    #[track_caller]
    fn until(&mut self, is_so: impl Fn(&World) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(wait(&[self.mail.waitable()], Some(deadline)).unwrap(), "nothing comes");
            for event in self.mail.drain().0 {
                let orders = match event {
                    ClusterEvent::Found(workload, found) => self.fleet.found(self.now, workload, *found),
                    ClusterEvent::Written(workload, order) => self.fleet.written(self.now, workload, order),
                    ClusterEvent::Trouble(workload, trouble) => {
                        self.fleet.trouble(workload, trouble);
                        Vec::new()
                    }
                    other => panic!("{other:?}"),
                };
                self.order(orders);
            }
        }
    }

    #[track_caller]
    fn until_all_written(&mut self) {
        self.until(|world| !world.fleet.members()[0].group.as_ref().unwrap().is_unwritten());
    }

    fn offer(&mut self, config: &Arc<GroupConfig>) {
        let answer = Answer { restart: true, offers: vec![(DaemonSet, Ok(Arc::clone(config)))] };
        let orders = self.fleet.answered(self.now, answer);
        self.order(orders);
    }

    /// What the pod is offered that says this of itself, a minute after it asked last.
    fn ask(&mut self, active: Option<&GroupConfig>, rejected: Option<&GroupConfig>) -> Option<Revision> {
        self.now += Duration::from_secs(60);
        let revision = |config: Option<&GroupConfig>| config.map(|config| config.revision.clone());
        let state = if active.is_some() { ConfigState::Confirmed } else { ConfigState::None };
        let report = PodReport {
            active: revision(active),
            rejected: revision(rejected),
            problem: rejected.map(|_| self.problem.to_string()),
            state: Some(state),
            is_running: true,
            uptime: Some(self.now),
        };
        let (answer, orders) = self.fleet.asked(self.now, DaemonSet, &PodId("a".into()), &report, "");
        self.order(orders);
        answer.unwrap().config
    }

    /// Asks until it is offered something else.
    #[track_caller]
    fn ask_until_offered(&mut self, active: Option<&GroupConfig>) -> Revision {
        for _ in 0..20 {
            if let Some(revision) = self.ask(active, None) {
                return revision;
            }
            self.until_all_written();
        }
        panic!("it is offered nothing");
    }

    /// Reports of a pod that has it and is well, until it is everybody's.
    #[track_caller]
    fn promote(&mut self, config: &GroupConfig) {
        for _ in 0..20 {
            self.ask(Some(config), None);
            self.until_all_written();
            let record = self.fleet.members()[0].record().unwrap();
            if record.stable.as_ref() == Some(&config.revision) {
                return;
            }
        }
        panic!("it is not promoted");
    }
}

impl World {
    /// What is told comes after what is written.
    fn end(self) -> Shared {
        let server = self.server.clone();
        drop(self);
        server
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.commands.send(UpdaterCommand::Stop).ok();
        if let Some(thread) = self.thread.take().filter(|_| !std::thread::panicking()) {
            thread.join().unwrap();
        }
    }
}

fn config(text: &str) -> Arc<GroupConfig> {
    Arc::new(GroupConfig::kept(text).unwrap())
}

#[test]
fn a_config_reaches_the_config_map_when_the_pods_have_proved_it() {
    let mut world = World::new(Shared::default());
    let new = config("a: 1");
    world.ask(None, None);
    world.offer(&new);
    assert_eq!(world.ask_until_offered(None), new.revision);
    assert!(world.server.annotation(STAGE).unwrap().starts_with("canary a"), "written before it is offered");
    assert!(!world.server.server().map.data.contains_key(KEY), "it has proved nothing");
    world.promote(&new);
    let server = world.end();
    let server = server.server();
    assert_eq!(server.map.data[KEY], "a: 1");
    assert_eq!(server.map.data.len(), 1, "{:?}", server.map.data.keys());
    assert_eq!((server.events.first(), server.events.last()), (Some(&"ConfigOffered"), Some(&"ConfigApplied")));
}

#[test]
fn a_rejected_config_is_told_and_the_pods_keep_the_former_one() {
    let server = Shared::default();
    server.edit(|map| _ = map.data.insert(KEY.into(), "a: 1".into()));
    let (old, bad) = (config("a: 1"), config("a: bad"));
    let mut world = World::new(server);
    world.ask(Some(&old), None);
    world.offer(&bad);
    world.ask_until_offered(Some(&old));
    assert_eq!(world.ask(Some(&old), Some(&bad)), None);
    world.until_all_written();
    assert_eq!(world.server.annotation(REJECTED), Some(bad.revision.to_string()));
    assert_eq!(world.server.server().map.data[KEY], "a: 1");
    let report = world.fleet.report();
    assert!(!report.is_running && report.extended.last_error_message.contains("it crashed"), "{report:?}");
    assert_eq!(report.extended.daemonset_rejected_revision, Some(bad.revision.to_string()));
    // Offered again it is not tried; another one is.
    world.offer(&bad);
    assert_eq!(world.ask(Some(&old), Some(&bad)), None);
    world.offer(&config("a: 2"));
    assert!(world.fleet.report().is_running, "what is rejected is not offered any more");
    assert!(world.end().server().events.contains(&"ConfigRejected"));
}

#[test]
fn nothing_is_offered_that_cannot_be_written() {
    let mut world = World::new(Shared::default());
    let new = config("a: 1");
    world.ask(None, None);
    world.server.server().failures = vec![Cause::Forbidden, Cause::Server];
    world.offer(&new);
    world.until(|world| world.fleet.problem().is_some());
    assert_eq!(world.ask(None, None), None, "an updater that is killed now would not know of it");
    world.until(|world| world.fleet.problem().is_none());
    assert_eq!(world.ask_until_offered(None), new.revision);
}

#[test]
fn a_lost_answer_and_changes_of_others_do_no_harm() {
    let mut world = World::new(Shared::default());
    let new = config("a: 1");
    world.ask(None, None);
    world.server.server().loses_answer = true;
    world.offer(&new);
    assert_eq!(world.ask_until_offered(None), new.revision);
    // What is not the updater's.
    world.server.edit(|map| _ = map.metadata.annotations.insert("owner".into(), "team".into()));
    world.promote(&new);
    assert_eq!(world.server.annotation("owner"), Some("team".into()));
    assert_eq!(world.server.server().map.data[KEY], "a: 1");
}

#[test]
fn an_updater_that_is_killed_goes_on_and_no_further_than_was_written() {
    let server = Shared::default();
    server.edit(|map| _ = map.data.insert(KEY.into(), "a: 1".into()));
    let (old, new) = (config("a: 1"), config("a: 2"));
    let mut world = World::new(server.clone());
    world.ask(Some(&old), None);
    world.offer(&new);
    world.ask_until_offered(Some(&old));
    drop(world);
    let mut world = World::new(server);
    assert_eq!(world.ask(Some(&old), None), Some(new.revision.clone()), "the canary is offered it again");
    world.promote(&new);
    assert_eq!(world.server.server().map.data[KEY], "a: 2");
}

#[test]
fn who_removes_the_rejection_has_the_config_tried_again() {
    let server = Shared::default();
    let (old, bad) = (config("a: 1"), config("a: 2"));
    server.edit(|map| {
        map.data.insert(KEY.into(), "a: 1".into());
        map.metadata.annotations.insert(REJECTED.into(), bad.revision.to_string());
    });
    let mut world = World::new(server);
    world.ask(Some(&old), None);
    world.offer(&bad);
    assert_eq!(world.ask(Some(&old), None), None);
    world.server.edit(|map| _ = map.metadata.annotations.remove(REJECTED));
    world.commands.send(UpdaterCommand::Read).unwrap();
    world.until(|world| world.fleet.members()[0].record().unwrap().rejected.is_none());
    world.offer(&bad);
    assert_eq!(world.ask_until_offered(Some(&old)), bad.revision);
}

#[test]
fn what_pods_say_is_told_on_without_the_secrets_of_their_configs() {
    let server = Shared::default();
    let text = "exporters: {otlp: {headers: {authorization: hush-hush-relay}}}";
    server.edit(|map| _ = map.data.insert(KEY.into(), text.into()));
    let (old, bad) = (config(text), config("a: bad"));
    let mut world = World::new(server);
    world.ask(Some(&old), None);
    world.offer(&bad);
    world.ask_until_offered(Some(&old));
    world.problem = "cannot send hush-hush-relay";
    world.ask(Some(&old), Some(&bad));
    world.until_all_written();
    let reason = world.server.annotation("kmagent.kloudmate.com/rejected-reason").unwrap();
    assert!(reason.contains("cannot send ****"), "{reason}");
}
