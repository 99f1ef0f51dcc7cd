//! What the policy says of a config that is offered, and once of the active one.

use super::check::ConfigCheck;
use crate::config::policy::Violations;
use crate::config::value::Value;

impl ConfigCheck {
    /// An overlay that cannot be read has no places of its own.
    pub(super) fn judge(&self, config: &Value, confirmed: Option<&Value>) -> Violations {
        self.policy.judge(config, self.overlay().as_ref(), confirmed)
    }

    /// The config that has proved itself; before one has, the active one, which no network's offer has become without
    /// being judged.
    pub(super) fn confirmed(&self) -> Option<Value> {
        let good = if self.is_alone { None } else { self.store.read_last_known_good().ok() };
        good.or_else(|| self.store.read_config().ok())
    }

    /// Logs what the active config violates, once for each policy: it stays as it is, but an upgrade or a new policy
    /// file may refuse the next one.
    pub(super) fn notice_violations(&mut self) {
        let Some(mut noticed) = self.noticed.take() else { return };
        let policy = self.policy.identity();
        if noticed.get().is_some_and(|noticed| noticed == policy) {
            return;
        }
        let violations = self.store.read_config().map(|config| self.judge(&config, None)).unwrap_or_default();
        if violations.is_empty() || self.policy.is_refusing() {
            return;
        }
        let violations = violations.explain(&self.policy_file);
        log::warn!(violations = violations.as_str(); "active config violates the policy; it stays in use");
        if let Err(error) = noticed.set(Some(policy.to_string())) {
            log::warn!(error:% = error; "cannot save that the policy's violations were logged; the next start logs them");
        }
    }
}
