//! Waiting for handles.

use std::io;
use std::marker::PhantomData;
use std::thread;
use std::time::{Duration, Instant};

use super::unsupported;

/// How long a wait takes that fails.
const BLIND_INTERVAL: Duration = Duration::from_millis(100);

/// Something that a wait ends for.
#[derive(Clone, Debug)]
pub struct Waitable<'a>(pub(super) PhantomData<&'a ()>);

/// Sleeps until one of `sources` is ready, which is true, or `deadline` has come; `None` is never.
///
/// # Errors
/// The system cannot say what is ready. A tenth of a second has passed then, or the time until `deadline`: try
/// everything.
pub fn wait(_sources: &[Waitable<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    thread::sleep(left.map_or(BLIND_INTERVAL, |left| left.min(BLIND_INTERVAL)));
    Err(unsupported())
}
