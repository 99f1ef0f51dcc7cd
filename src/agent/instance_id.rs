//! Which installation of the agent this is, for extended reports: a random number, bound to the machine, unless a
//! setting says it.
//!
//! A disk image that is cloned has the number of its original. So a hash of the machine's id (machine-id(5)) is kept
//! beside it: on another machine there is another number. The machine's id itself is kept and told nowhere.

use ring::{digest, rand};

use crate::os::host;
use crate::settings::Settings;
use crate::store::Store;
use crate::store::record::{self, Record};

pub struct InstanceId {
    /// By a setting, in the place of one of our own.
    given: Option<String>,
    id: Record<String>,
    machine: Record<String>,
    /// `None` when it was looked at, or is not to be: a container's is its image's or its host's.
    unbound: Option<String>,
}

impl InstanceId {
    pub fn new(settings: &Settings, store: &Store) -> InstanceId {
        InstanceId {
            given: settings.instance_id.clone(),
            id: Record::open(store.state_dir(), record::INSTANCE_ID),
            machine: Record::open(store.state_dir(), record::INSTANCE_MACHINE),
            unbound: host::machine_id().filter(|_| !settings.docker_mode).map(|id| hash(&id)),
        }
    }

    /// With what the former one could not keep on the disk.
    pub fn keep(&mut self, former: InstanceId) {
        *self = InstanceId { given: self.given.take(), ..former };
    }

    /// For a dry run: nothing is kept.
    pub fn read_only(&mut self) {
        self.id.freeze();
        self.machine.freeze();
    }

    /// Made once and kept; a new one for each run where nothing can be kept, and once on another machine.
    pub fn get(&mut self) -> Option<String> {
        if self.given.is_some() {
            return self.given.clone();
        }
        let machine = self.unbound.take();
        let is_another = machine.is_some() && self.machine.get().is_some() && self.machine.get() != machine.as_ref();
        if is_another {
            log::info!("the machine has another id than at the latest start, so this instance is a new one");
        }
        let made = (is_another || self.id.get().is_none()).then(|| self.id.set(Some(random())));
        // After that, or a copy could keep the number of its original.
        let bound = made.unwrap_or(Ok(())).and_then(|()| match machine {
            Some(machine) => self.machine.set(Some(machine)),
            None => Ok(()),
        });
        if let Err(error) = bound {
            log::warn!(error:% = error; "cannot save the instance id; it will change at the next start");
        }
        self.id.get().cloned()
    }
}

/// As for an id that others may see (machine-id(5)): it leads back to no machine.
fn hash(machine_id: &str) -> String {
    let digest = digest::digest(&digest::SHA256, format!("kmagent instance {machine_id}").as_bytes());
    hexadecimal(&digest.as_ref()[..16])
}

/// 128 random bits in hexadecimal.
fn random() -> String {
    let mut bytes = [0u8; 16];
    // It fails only where the kernel has no randomness at all; an id of zeros is one that an operator will notice.
    let _ = rand::SecureRandom::fill(&rand::SystemRandom::new(), &mut bytes);
    hexadecimal(&bytes)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        assert_eq!(random().len(), 32);
        assert_ne!(random(), random());
        assert_eq!(hash("a").len(), 32);
        assert_ne!(hash("a"), hash("b"));
    }
}
