//! A new config's way to collectors that are not the agent's children: install → activate → observe, and undo if it
//! fails.
//!
//! It decides what the next step is, and what a run that was killed has left to do. The steps are made by the caller,
//! who has the files (or the cluster) and the collectors. One that cannot be made at all says nothing about the config:
//! the run ends there, as if it had been killed, and `resume` goes on. So a run writes down which config it installs
//! before the install, and a rejection before an undo.

use super::event::Problem;

/// Which config the collectors are to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    New,
    /// What the new one had replaced.
    Former,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write down what is installed and keep the former config; then put the new one in its place.
    Install,
    /// Have the collectors use the config that is in place.
    Activate(Version),
    /// Wait until it is known whether they work with it.
    Observe(Version),
    /// Reject the new config for this problem; then put the former one in its place, or none if there was none.
    Undo(Problem),
    End(End),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The collectors use the new config.
    Installed,
    /// The new one was undone and is rejected; `former` is the problem with the former one, which is then to be
    /// activated again.
    RolledBack { former: Option<Problem> },
    /// The run that was killed had not changed the config.
    NotInstalled,
}

/// What a run that was killed has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The new config is in place.
    pub is_installed: bool,
    pub is_rejected: bool,
    /// There was a config before.
    pub has_former: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    step: Step,
    has_former: bool,
}

impl Rollout {
    pub fn begin(has_former: bool) -> Rollout {
        Rollout { step: Step::Install, has_former }
    }

    /// Goes on where a killed run may have been. What may have been done and what may not is done again.
    pub fn resume(found: Found) -> Rollout {
        let step = match (found.is_installed, found.is_rejected, found.has_former) {
            (true, ..) => Step::Activate(Version::New),
            (false, true, true) => Step::Activate(Version::Former),
            (false, true, false) => Step::End(End::RolledBack { former: None }),
            (false, false, _) => Step::End(End::NotInstalled),
        };
        Rollout { step, has_former: found.has_former }
    }

    /// The one to be made now.
    pub fn step(&self) -> &Step {
        &self.step
    }

    pub fn has_former(&self) -> bool {
        self.has_former
    }

    /// It was made. An error is the config's fault.
    pub fn advance(&mut self, result: Result<(), Problem>) {
        let rolled_back = |former| Step::End(End::RolledBack { former });
        self.step = match (std::mem::replace(&mut self.step, Step::Install), result) {
            (Step::Install, Ok(())) => Step::Activate(Version::New),
            (Step::Activate(version), Ok(())) => Step::Observe(version),
            (Step::Observe(Version::New), Ok(())) => Step::End(End::Installed),
            (Step::Install | Step::Activate(Version::New) | Step::Observe(Version::New), Err(problem)) => {
                Step::Undo(problem)
            }
            (Step::Undo(_), Ok(())) if self.has_former => Step::Activate(Version::Former),
            (Step::Undo(_) | Step::Observe(Version::Former), Ok(())) => rolled_back(None),
            (Step::Activate(Version::Former) | Step::Observe(Version::Former), Err(problem)) => {
                rolled_back(Some(problem))
            }
            // It is the former config that counts now: there is no other way than to try again.
            (Step::Undo(problem), Err(_)) => Step::Undo(problem),
            (Step::End(end), _) => Step::End(end),
        };
    }
}

impl End {
    /// Whether nothing is left to do, so that what was written down can go.
    pub fn is_final(&self) -> bool {
        !matches!(self, End::RolledBack { former: Some(_) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Result<(), Problem> {
        Err(text.to_string())
    }

    #[test]
    fn each_step_and_result_has_its_next_step() {
        use Step::*;
        use Version::*;
        let rolled_back = |former: Option<&str>| End(super::End::RolledBack { former: former.map(str::to_string) });
        let undo = || Undo("p".to_string());
        // step, has_former, result, next step
        let table = [
            (Install, true, Ok(()), Activate(New)),
            (Install, true, problem("p"), undo()),
            (Activate(New), true, Ok(()), Observe(New)),
            (Activate(New), false, problem("p"), undo()),
            (Observe(New), true, Ok(()), End(super::End::Installed)),
            (Observe(New), true, problem("p"), undo()),
            (undo(), true, Ok(()), Activate(Former)),
            (undo(), false, Ok(()), rolled_back(None)),
            (undo(), true, problem("q"), undo()),
            (Activate(Former), true, Ok(()), Observe(Former)),
            (Activate(Former), true, problem("q"), rolled_back(Some("q"))),
            (Observe(Former), true, Ok(()), rolled_back(None)),
            (Observe(Former), true, problem("q"), rolled_back(Some("q"))),
            (rolled_back(None), true, problem("q"), rolled_back(None)),
        ];
        for (step, has_former, result, expected) in table {
            let mut rollout = Rollout { step: step.clone(), has_former };
            rollout.advance(result.clone());
            assert_eq!(rollout.step(), &expected, "{step:?} {has_former} {result:?}");
        }
    }

    #[test]
    fn a_killed_run_is_resumed_by_what_it_left() {
        // is_installed, is_rejected, has_former, step
        let table = [
            // Between the install and the verdict, or between the rejection and the undo.
            (true, false, true, Step::Activate(Version::New)),
            (true, false, false, Step::Activate(Version::New)),
            (true, true, true, Step::Activate(Version::New)),
            (true, true, false, Step::Activate(Version::New)),
            // After the undo.
            (false, true, true, Step::Activate(Version::Former)),
            (false, true, false, Step::End(End::RolledBack { former: None })),
            // Before the install.
            (false, false, true, Step::End(End::NotInstalled)),
            (false, false, false, Step::End(End::NotInstalled)),
        ];
        for (is_installed, is_rejected, has_former, expected) in table {
            let found = Found { is_installed, is_rejected, has_former };
            assert_eq!(Rollout::resume(found).step(), &expected, "{found:?}");
        }
    }

    /// What was in place, rejected and written down when a run was killed before or after any step leads to the end of
    /// a whole run.
    #[test]
    fn wherever_a_run_is_killed_it_ends_as_if_it_had_not_been() {
        for (has_former, works) in [(true, true), (true, false), (false, true), (false, false)] {
            let whole = run(Rollout::begin(has_former), &mut Host::new(has_former, works), usize::MAX);
            for killed_after in 0.. {
                let mut host = Host::new(has_former, works);
                let Some(end) = run(Rollout::begin(has_former), &mut host, killed_after) else {
                    let found = Found { is_installed: host.is_new, is_rejected: host.is_rejected, has_former };
                    let resumed = run(Rollout::resume(found), &mut host, usize::MAX);
                    let expected = if killed_after == 0 { Some(End::NotInstalled) } else { whole.clone() };
                    assert_eq!(resumed, expected, "{has_former} {works} {killed_after}");
                    assert_eq!(host.is_new, works && killed_after > 0);
                    continue;
                };
                assert_eq!(Some(end), whole);
                break;
            }
        }
    }

    struct Host {
        is_new: bool,
        is_rejected: bool,
        works: bool,
        has_former: bool,
    }

    impl Host {
        fn new(has_former: bool, works: bool) -> Host {
            Host { is_new: false, is_rejected: false, works, has_former }
        }
    }

    /// `None` if it is killed after so many steps.
    fn run(mut rollout: Rollout, host: &mut Host, mut killed_after: usize) -> Option<End> {
        loop {
            if let Step::End(end) = rollout.step() {
                return Some(end.clone());
            }
            if killed_after == 0 {
                return None;
            }
            killed_after -= 1;
            let result = match rollout.step() {
                Step::Install => {
                    host.is_new = true;
                    Ok(())
                }
                Step::Observe(Version::New) if !host.works => problem("it does not work"),
                Step::Undo(_) => {
                    host.is_rejected = true;
                    host.is_new = false;
                    Ok(())
                }
                Step::Activate(Version::Former) => {
                    assert!(host.has_former && !host.is_new);
                    Ok(())
                }
                Step::Activate(_) | Step::Observe(_) | Step::End(_) => Ok(()),
            };
            rollout.advance(result);
        }
    }
}
