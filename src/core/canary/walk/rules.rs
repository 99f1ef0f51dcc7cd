//! What must hold when the group answers or orders.

use super::*;

impl World {
    pub(super) fn perform(&mut self, actions: Vec<Action<Revision>>) {
        let verdict = |action: &Action<Revision>| !matches!(action, Action::Persist { .. });
        let (has_verdict, has_order) = (actions.iter().any(verdict), actions.iter().any(|action| !verdict(action)));
        assert!(!has_verdict || has_order, "a verdict that is not written down: {actions:?}");
        for action in actions {
            self.tell(|| format!("    {action:?}"));
            match action {
                Action::Persist { order, record } => {
                    assert_ne!(self.latest_order.as_ref(), Some(&record), "the same order again");
                    assert_eq!(&record, self.group.record());
                    self.latest_order = Some(record.clone());
                    self.order = Some((order, record));
                }
                Action::Rejected(rejection) => {
                    let kind = self.kinds[rejection.revision];
                    let record = self.group.record();
                    assert_eq!((record.rejected.as_ref(), &record.candidate), (Some(&rejection), &None));
                    let by_a_pod = rejection.reason.contains("rejected it");
                    assert!(!by_a_pod || kind != Kind::Good, "a pod rejects a good one?");
                    let vanished = rejection.reason.contains("vanished");
                    self.seen.extend(by_a_pod.then_some("rejected: rejected it"));
                    let started = rejection.reason.contains("was started again");
                    self.seen.extend(started.then_some("rejected: started again and again"));
                    self.seen.extend(vanished.then_some("rejected: vanished"));
                }
                Action::Promoted(revision) => {
                    assert_eq!(self.group.record().stable, Some(revision));
                    let stored = self.stored.candidate.as_ref();
                    assert_eq!(stored, Some(&Candidate { revision, stage: Stage::All }), "promoted from another stage");
                    assert_eq!(self.kinds[revision], Kind::Good, "a bad config is everybody's");
                    let proves = |pod: &SimulatedPod| pod.proves(revision, &self.rules, self.confirm_time);
                    assert!(self.pods.iter().any(proves) || self.trouble > 0.0, "nobody has proved it");
                    self.promoted.insert(revision);
                    self.seen.insert("promoted");
                }
            }
        }
    }

    /// Of living pods, as far as they are heard.
    fn exposed_to(&self, revision: Revision) -> impl Iterator<Item = &SimulatedPod> {
        let heard_since = self.now.saturating_sub(self.rules.forget_after());
        let is_heard = move |pod: &&SimulatedPod| pod.heard_at.is_some_and(|at| at >= heard_since);
        self.pods.iter().filter(is_heard).filter(move |pod| pod.exposed_to == Some(revision))
    }

    pub(super) fn check_answer(&mut self, index: usize, report: &PodReport<Revision>, answer: &Answer<Revision>) {
        let now = self.now;
        self.pods[index].heard_at = Some(now);
        let may_restart = std::mem::take(&mut self.pods[index].may_restart);
        let Some(revision) = answer.config else {
            assert!(!answer.restart || may_restart, "a restart that nobody asked for");
            self.seen.extend(answer.restart.then_some("restarted"));
            // Where nothing has proved itself, a pod keeps what it has.
            let record = self.group.record();
            let is_meant = record.candidate.as_ref().map(|candidate| candidate.revision) == report.active;
            let pod = &mut self.pods[index];
            if pod.exposed_to != report.active || (record.stable.is_none() && !is_meant) {
                pod.exposed_to = None;
            }
            return;
        };
        assert!(answer.restart, "an offer is applied at once");
        assert_ne!(Some(revision), report.active, "it has it");
        if self.promoted.contains(&revision) && self.group.record().stable == Some(revision) {
            self.pods[index].exposed_to = None;
            self.seen.insert("sent back");
            return;
        }
        let rejected = self.stored.rejected.as_ref().map(|rejection| rejection.revision);
        assert_ne!(Some(revision), rejected, "a rejected one is offered");
        assert_ne!(Some(revision), report.rejected, "the pod has rejected it");
        let Some(Candidate { revision: stored, stage }) = self.stored.candidate.clone() else {
            panic!("an offer without a record: {revision}")
        };
        assert_eq!(revision, stored, "another candidate than the record's");
        let id = self.pods[index].id.clone();
        let others = self.exposed_to(revision).filter(|pod| pod.id != id).count();
        let was_exposed = self.pods[index].exposed_to == Some(revision);
        self.seen.insert(match stage {
            Stage::Canary { pod, .. } => {
                assert_eq!(pod, Some(id), "not the canary");
                assert_eq!(others, 0, "a second canary");
                "offered to a canary"
            }
            Stage::Step { pods, .. } => {
                assert!(was_exposed || others < pods, "{others} pods and one more in a step of {pods}");
                "offered to one of a step"
            }
            Stage::All => "offered to all",
        });
        self.pods[index].exposed_to = Some(revision);
    }
}
