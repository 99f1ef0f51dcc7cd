//! What the API asks for in rollout mode, and when it is done.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::*;
use crate::cluster::kubernetes::{ConfigMapPatch, Event, LabelSelector, PodPage};
use crate::cluster::poll::Identity;
use crate::os::wake_channel::channel;

/// A DaemonSet of two pods.
#[derive(Clone, Default)]
struct Server {
    restarts: Arc<AtomicU32>,
    available: Arc<Mutex<u32>>,
}

impl Server {
    fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }
}

impl Api for Server {
    fn config_map(&self, _: &Name) -> kubernetes::Result<ConfigMap> {
        Ok(ConfigMap::default())
    }

    fn patch_config_map(&self, _: &Name, _: &ConfigMapPatch) -> kubernetes::Result<ConfigMap> {
        unreachable!("nothing is offered")
    }

    fn workload(&self, _: &WorkloadId) -> kubernetes::Result<kubernetes::Workload> {
        let mut workload = kubernetes::Workload::default();
        (workload.status.desired_number_scheduled, workload.status.updated_number_scheduled) = (2, 2);
        workload.status.number_available = *self.available.lock().unwrap();
        Ok(workload)
    }

    fn set_restarted_at(
        &self,
        _: &WorkloadId,
        _: Option<&str>,
        _: Option<&str>,
    ) -> kubernetes::Result<kubernetes::Workload> {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        Ok(kubernetes::Workload::default())
    }

    fn pods(&self, _: &LabelSelector, _: Option<&str>) -> kubernetes::Result<PodPage> {
        Ok(PodPage::default())
    }

    fn create_event(&self, _: &Event) -> kubernetes::Result<()> {
        Ok(())
    }

    fn may(&self, _: &Right) -> kubernetes::Result<bool> {
        Ok(true)
    }
}

fn roller(server: &Server) -> Roller {
    let identity =
        Identity { cluster_name: "test".into(), logs_enabled: false, namespaces: Vec::new(), report_extended: false };
    let clock = Instant::now();
    let poll = Poll::new(clock, None, identity, None, 7);
    // Nobody reads what it tells.
    let (main, _) = channel().unwrap();
    let (_, mailbox) = crossbeam_channel::unbounded();
    let parts = Parts { clock, mailbox, main, api: Box::new(server.clone()), poll, most_yaml: 1 << 20 };
    let target = Target {
        config_map: Name::parse("configs").unwrap(),
        key: config_map::key(Workload::DaemonSet),
        workload: WorkloadId { kind: WorkloadKind::DaemonSet, name: Name::parse("km-agent").unwrap() },
    };
    let rules = Rules { deadline: Duration::from_secs(60), settle: Duration::from_secs(10) };
    Roller::new(parts, vec![(Workload::DaemonSet, target)], rules)
}

fn restart_requested() -> ClusterResponse {
    ClusterResponse { restart: true, ..ClusterResponse::default() }
}

#[test]
fn nothing_is_restarted_with_a_config_whose_rollout_is_unfinished() {
    let server = Server::default();
    *server.available.lock().unwrap() = 2;
    let mut roller = roller(&server);
    roller.obey(restart_requested()).unwrap();
    assert_eq!(server.restarts(), 0);
    roller.finish(0).unwrap();
    roller.obey(restart_requested()).unwrap();
    assert_eq!(server.restarts(), 1);
}

#[test]
fn a_rollout_is_the_streaks_restart_however_long_it_took() {
    let server = Server::default();
    *server.available.lock().unwrap() = 2;
    let mut roller = roller(&server);
    roller.finish(0).unwrap();
    // It was decided on more than an hour ago.
    roller.groups[0].throttle.honoured_at = Some(unix_now() - REPEAT_SECONDS - 1);
    let revision = crate::config::yaml::parse(b"a: b").unwrap().revision();
    roller.tell(0, Finished { revision, outcome: Outcome::Installed });
    roller.obey(restart_requested()).unwrap();
    assert_eq!(server.restarts(), 0);
}

#[test]
fn a_restart_that_pods_are_in_the_way_of_is_tried_again_after_ten_minutes() {
    let server = Server::default();
    *server.available.lock().unwrap() = 1;
    let mut roller = roller(&server);
    roller.finish(0).unwrap();
    roller.obey(restart_requested()).unwrap();
    *server.available.lock().unwrap() = 2;
    roller.obey(restart_requested()).unwrap();
    assert_eq!(server.restarts(), 0);
    let honoured_at = roller.groups[0].throttle.honoured_at.as_mut().unwrap();
    *honoured_at -= SKIPPED_SECONDS;
    roller.obey(restart_requested()).unwrap();
    assert_eq!(server.restarts(), 1);
}
