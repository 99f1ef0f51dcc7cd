//! Who has a port. Nobody can say yet.

use std::net::SocketAddr;

use super::user::User;

/// The same one as long as it has the very same socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub user: User,
}

pub fn find(_at: SocketAddr, _is_stream: bool) -> Option<Holder> {
    None
}

impl Holder {
    pub fn process(&self) -> Option<(u32, String)> {
        None
    }
}
