//! A collector config as a value. Pure: no file, clock, process, environment or log.
//!
//! ```text
//!   value        the tree that JSON and YAML are read into, and its revision
//!   yaml         a config file parsed, and a config rendered
//!   merge        what the collector makes of several configs
//!   inspect      what the agent must know of a config: health check, expansions, secrets
//!   credentials  users and passwords in URLs and connection strings
//!   policy       what a config from the network may do
//! ```

pub mod credentials;
pub mod inspect;
pub mod merge;
pub mod policy;
pub mod value;
pub mod yaml;
