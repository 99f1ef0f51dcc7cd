//! What a source's response asks for, given what is active and what was rejected.
//!
//! It compares identities only; it neither renders nor installs. The guard against a server that keeps asking for a
//! restart lives here too. Times are Unix seconds, since the guard outlives the process (`--check` from cron is a new
//! one each time).

use serde::{Deserialize, Serialize};

/// Answers in a row that ask for a restart are one request, met at most this often (DESIGN.md, "One config check").
pub const REPEAT_SECONDS: u64 = 3600;

/// What the source asks for: whether a restart, and the identity of the config that it offers.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a, Id> {
    pub restart_required: bool,
    pub config: Option<&'a Id>,
}

/// What there is to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Everything is as the server wants it.
    Nothing,
    /// A new config, to be validated and installed.
    Install,
    /// The collector is to be restarted with the active config.
    Restart,
    /// The config is the one that was rejected before; it is not tried again.
    StillRejected,
    /// A new config, but the server does not ask to use it yet.
    NotYet,
}

/// A streak of answers that ask for a restart; `None` when the last answer did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartThrottle {
    /// When the streak's last request was honoured, in Unix seconds.
    pub honoured_at: Option<u64>,
}

impl RestartThrottle {
    pub fn decide<Id: PartialEq>(
        &mut self,
        asked: Asked<'_, Id>,
        active: Option<&Id>,
        rejected: Option<&Id>,
        now: u64,
    ) -> Decision {
        if !asked.restart_required {
            self.honoured_at = None;
        }
        match asked.config {
            Some(config) if active == Some(config) => self.restart(asked.restart_required, now),
            Some(config) if rejected == Some(config) => Decision::StillRejected,
            Some(_) if !asked.restart_required => Decision::NotYet,
            Some(_) => {
                self.honoured_at = Some(now);
                Decision::Install
            }
            None => self.restart(asked.restart_required, now),
        }
    }

    fn restart(&mut self, asked: bool, now: u64) -> Decision {
        // A clock that went back must not silence requests for ever: `abs_diff` counts both ways.
        let due = self.honoured_at.is_none_or(|at| now.abs_diff(at) >= REPEAT_SECONDS);
        if !asked || !due {
            return Decision::Nothing;
        }
        self.honoured_at = Some(now);
        Decision::Restart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions() {
        use Decision::*;
        // restart_required, config, active, rejected, decision
        let table = [
            (false, None, Some(1), None, Nothing),
            (true, None, Some(1), None, Restart),
            (true, None, None, None, Restart),
            (true, Some(1), Some(1), None, Restart),
            (false, Some(1), Some(1), None, Nothing),
            (true, Some(2), Some(1), None, Install),
            (true, Some(2), None, None, Install),
            (false, Some(2), Some(1), None, NotYet),
            (true, Some(2), Some(1), Some(2), StillRejected),
            (false, Some(2), Some(1), Some(2), StillRejected),
            (true, Some(3), Some(1), Some(2), Install),
            // Rejected once and active all the same, say by hand: active counts.
            (false, Some(2), Some(2), Some(2), Nothing),
        ];
        for (restart_required, config, active, rejected, expected) in table {
            let asked = Asked { restart_required, config: config.as_ref() };
            let decision = RestartThrottle::default().decide(asked, active.as_ref(), rejected.as_ref(), 0);
            assert_eq!(decision, expected, "{restart_required} {config:?} {active:?} {rejected:?}");
        }
    }

    #[test]
    fn answers_in_a_row_are_one_request_repeated_once_an_hour() {
        let mut requests = RestartThrottle::default();
        let mut ask = |restart_required, config: Option<i32>, now| {
            requests.decide(Asked { restart_required, config: config.as_ref() }, Some(&1), None, now)
        };
        assert_eq!(ask(true, None, 0), Decision::Restart);
        assert_eq!(ask(true, None, 60), Decision::Nothing);
        assert_eq!(ask(true, Some(1), 3599), Decision::Nothing);
        assert_eq!(ask(true, Some(1), 3600), Decision::Restart);
        assert_eq!(ask(false, None, 3660), Decision::Nothing);
        assert_eq!(ask(true, None, 3720), Decision::Restart);
        assert_eq!(ask(true, None, 100), Decision::Restart, "a clock set back by an hour or more");
    }

    #[test]
    fn an_install_is_the_streaks_restart() {
        let mut requests = RestartThrottle::default();
        let asked = Asked { restart_required: true, config: Some(&2) };
        assert_eq!(requests.decide(asked, Some(&1), None, 0), Decision::Install);
        assert_eq!(requests.decide(asked, Some(&2), None, 10), Decision::Nothing);
    }
}
