//! Who starts the agent again when it has ended. Nobody is known yet.

#[derive(Debug, PartialEq, Eq)]
pub struct AfterStop {
    pub is_status_known: bool,
    pub advice: Option<String>,
}

pub fn after_stop(_status: u8) -> AfterStop {
    AfterStop { is_status_known: true, advice: None }
}

pub fn after_stop_of(_pid: u32, status: u8) -> AfterStop {
    after_stop(status)
}
