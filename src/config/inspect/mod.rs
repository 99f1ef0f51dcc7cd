//! What the agent must know of a collector config: where its health check answers, what it reads from elsewhere, and
//! which strings are secrets; what may be told of an error.
//!
//! Pure questions: the environment is asked through a function, and nothing is read, probed or logged here.

mod complaint;
mod health_check;
mod quoted;
mod reads;
mod references;
mod secrets;
mod variable;

pub use complaint::{complaint, keys, literal_place};
pub use health_check::{Binding, HealthCheck, health_check};
pub use quoted::quoted_place;
pub use reads::{Reads, prints_telemetry, reads_files};
pub use references::{Env, Expansion, each_expansion, expansions};
pub use secrets::{is_secret_name, secrets};
pub use variable::misread;
