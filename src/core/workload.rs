//! What a workload (a DaemonSet or a Deployment) and its pods tell of a rollout: whether one may begin, whether it is
//! done, whether it has failed, and why.
//!
//! It knows of no API and no clock: what was observed is passed in, and who waits how long is the caller's business. A
//! pod is of the newest revision if it has the template's `restartedAt`, which each rollout sets.

use super::event::Problem;

/// As it was observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Its controller has seen the newest template, so the counts are about that.
    pub is_observed: bool,
    /// The template's annotation.
    pub restarted_at: Option<String>,
    /// How many pods there are to be.
    pub wanted: u32,
    /// How many there are, of any revision.
    pub total: u32,
    /// Of the newest revision.
    pub updated: u32,
    /// Ready for so long that they count, of any revision.
    pub available: u32,
    /// Why another template would replace no pods.
    pub standstill: Option<&'static str>,
    /// Its own deadline has passed, with what it says of that.
    pub exceeded: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    pub name: String,
    /// `None` as long as it has none.
    pub node: Option<String>,
    pub restarted_at: Option<String>,
    pub is_ready: bool,
    /// It has ended, or is to.
    pub is_leaving: bool,
    /// A container of it crashes again and again.
    pub crash: Option<String>,
    /// Why it does not run, as far as the kubelet says.
    pub waiting: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All pods are of the newest revision, and available.
    Done,
    /// With what it waits for.
    Going(String),
    Failed(Problem),
}

/// Whether nothing that serves would be lost if the pods were replaced now, else what to wait for. A controller
/// replaces pods that are not available all at once: so none may be young, and one may only be crashing, when the new
/// config may be its cure.
///
/// # Errors
/// What it waits for.
pub fn may_begin(workload: &Workload, pods: &[Pod]) -> Result<(), Problem> {
    let Workload { wanted, total, updated, available, .. } = *workload;
    if let Some(why) = workload.standstill {
        return Err(why.to_owned());
    }
    if !workload.is_observed {
        return Err("its controller has not seen the newest template yet".to_owned());
    }
    if wanted == 0 {
        return Err("it has no pods to try a config on".to_owned());
    }
    if updated == wanted && total == wanted && available == wanted {
        return Ok(());
    }
    let crashing = pods.iter().filter(|pod| !pod.is_leaving && pod.crash.is_some()).count();
    let unavailable = total.max(wanted).saturating_sub(available);
    if crashing > 0 && crashing >= unavailable as usize {
        return Ok(());
    }
    Err(format!("{available} of {wanted} pods are available, {updated} of the newest revision{}", obstacles(pods)))
}

/// How far the newest revision has come.
pub fn progress(workload: &Workload, pods: &[Pod]) -> Progress {
    let Workload { wanted, total, updated, available, .. } = *workload;
    let newest = pods.iter().filter(|pod| !pod.is_leaving && pod.restarted_at == workload.restarted_at);
    if let Some((pod, crash)) = newest.filter_map(|pod| Some((pod, pod.crash.as_ref()?))).next() {
        return Progress::Failed(format!("{}: {crash}", place(pod)));
    }
    if !workload.is_observed {
        return Progress::Going("its controller has not seen the newest template yet".to_owned());
    }
    if let Some(exceeded) = &workload.exceeded {
        return Progress::Failed(format!("ProgressDeadlineExceeded: {exceeded}{}", obstacles(pods)));
    }
    if updated >= wanted && total == updated && available >= updated {
        return Progress::Done;
    }
    Progress::Going(format!(
        "{updated} of {wanted} pods are of the newest revision, {available} available{}",
        obstacles(pods)
    ))
}

/// The pods tell no more than the counts do.
pub fn is_settled(workload: &Workload) -> bool {
    let Workload { wanted, total, updated, available, .. } = *workload;
    updated == wanted && total == wanted && available == wanted
}

/// The first of the pods that are not ready, as the end of a sentence.
fn obstacles(pods: &[Pod]) -> String {
    const SHOWN: usize = 3;
    let mut found = pods.iter().filter(|pod| !pod.is_ready && !pod.is_leaving);
    let mut text = String::new();
    for pod in found.by_ref().take(SHOWN) {
        let why = pod.crash.as_deref().or(pod.waiting.as_deref()).unwrap_or("not ready");
        text += &format!("; {}: {why}", place(pod));
    }
    match found.count() {
        0 => text,
        more => text + &format!("; and {more} more"),
    }
}

fn place(pod: &Pod) -> String {
    match &pod.node {
        Some(node) => format!("pod {} on node {node}", pod.name),
        None => format!("pod {} on no node", pod.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three wanted, of which so many are updated and available.
    fn three(total: u32, updated: u32, available: u32) -> Workload {
        let restarted_at = Some("new".to_owned());
        Workload { is_observed: true, restarted_at, wanted: 3, total, updated, available, ..Workload::default() }
    }

    fn pod(name: &str, restarted_at: &str) -> Pod {
        Pod {
            name: name.to_owned(),
            node: Some("n1".to_owned()),
            restarted_at: Some(restarted_at.to_owned()),
            is_ready: true,
            ..Pod::default()
        }
    }

    fn crashing(name: &str, restarted_at: &str) -> Pod {
        Pod { is_ready: false, crash: Some("CrashLoopBackOff".to_owned()), ..pod(name, restarted_at) }
    }

    #[test]
    fn a_rollout_begins_when_it_can_take_nothing_that_serves() {
        let young = Pod { is_ready: false, ..pod("young", "new") };
        let leaving = Pod { is_leaving: true, ..crashing("leaving", "new") };
        let unobserved = Workload { is_observed: false, ..three(3, 3, 3) };
        let held = Workload { standstill: Some("it is paused"), ..three(3, 3, 3) };
        let none = Workload { wanted: 0, ..three(0, 0, 0) };
        for (workload, pods, expected) in [
            (three(3, 3, 3), vec![], Ok(())),
            (held, vec![], Err("it is paused")),
            (unobserved, vec![], Err("its controller has not seen the newest template yet")),
            (none, vec![], Err("it has no pods to try a config on")),
            (
                three(3, 3, 2),
                vec![young.clone()],
                Err("2 of 3 pods are available, 3 of the newest revision; pod young on node n1: not ready"),
            ),
            // Another rollout is under way.
            (three(3, 1, 3), vec![], Err("3 of 3 pods are available, 1 of the newest revision")),
            (three(4, 3, 3), vec![], Err("3 of 3 pods are available, 3 of the newest revision")),
            // What crashes serves nobody, and the config may be why.
            (three(3, 3, 2), vec![crashing("c", "new")], Ok(())),
            (three(3, 1, 2), vec![crashing("c", "new")], Ok(())),
            (three(3, 3, 0), vec![crashing("c", "new"), crashing("d", "new"), crashing("e", "old")], Ok(())),
            (
                three(3, 3, 1),
                vec![crashing("c", "new"), young],
                Err(
                    "1 of 3 pods are available, 3 of the newest revision; pod c on node n1: CrashLoopBackOff; pod young \
                     on node n1: not ready",
                ),
            ),
            (three(3, 3, 2), vec![leaving], Err("2 of 3 pods are available, 3 of the newest revision")),
            // A pod that was not made yet.
            (three(2, 2, 2), vec![], Err("2 of 3 pods are available, 2 of the newest revision")),
        ] {
            assert_eq!(may_begin(&workload, &pods), expected.map_err(str::to_owned), "{workload:?} {pods:?}");
        }
    }

    #[test]
    fn a_rollout_is_judged_by_the_pods_of_the_newest_revision() {
        let going = |text: &str| Progress::Going(text.to_owned());
        let failed = |text: &str| Progress::Failed(text.to_owned());
        let unobserved = Workload { is_observed: false, exceeded: Some("old".to_owned()), ..three(3, 3, 3) };
        let exceeded = Workload { exceeded: Some("timed out".to_owned()), ..three(4, 1, 3) };
        let pulling =
            Pod { node: None, is_ready: false, waiting: Some("ErrImagePull".to_owned()), ..pod("pulling", "new") };
        let leaving = Pod { is_leaving: true, ..crashing("leaving", "new") };
        for (workload, pods, expected) in [
            (three(3, 3, 3), vec![], Progress::Done),
            (unobserved.clone(), vec![], going("its controller has not seen the newest template yet")),
            (unobserved, vec![crashing("c", "new")], failed("pod c on node n1: CrashLoopBackOff")),
            (three(3, 1, 2), vec![crashing("c", "new")], failed("pod c on node n1: CrashLoopBackOff")),
            (
                three(3, 1, 2),
                vec![crashing("c", "old"), leaving],
                going("1 of 3 pods are of the newest revision, 2 available; pod c on node n1: CrashLoopBackOff"),
            ),
            (
                exceeded,
                vec![pulling.clone()],
                failed("ProgressDeadlineExceeded: timed out; pod pulling on no node: ErrImagePull"),
            ),
            // An old pod is still there.
            (three(4, 3, 3), vec![], going("3 of 3 pods are of the newest revision, 3 available")),
            (three(4, 3, 4), vec![], going("3 of 3 pods are of the newest revision, 4 available")),
            (
                three(3, 3, 0),
                vec![pulling; 5],
                going(
                    "3 of 3 pods are of the newest revision, 0 available; pod pulling on no node: ErrImagePull; pod \
                       pulling on no node: ErrImagePull; pod pulling on no node: ErrImagePull; and 2 more",
                ),
            ),
        ] {
            assert_eq!(progress(&workload, &pods), expected, "{workload:?} {pods:?}");
        }
    }
}
