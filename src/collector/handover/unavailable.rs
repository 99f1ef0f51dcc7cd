//! What stands in for the kernel's part of a hand-over where there is none: it is never supported, so nothing is ever
//! watched.
//!
//! The signatures are those of the modules on Linux; a `BindWatch` cannot come to be.

const REASON: &str = "hand-over is not available on this system";

pub mod supported {
    pub fn supported() -> Result<(), String> {
        Err(super::REASON.to_string())
    }
}

pub mod privileges {
    use std::path::Path;

    pub fn watchable(_program: &Path) -> Result<(), String> {
        Err(super::REASON.to_string())
    }

    pub fn outlives_parent(_program: &Path) -> bool {
        false
    }
}

pub mod binds {
    use std::io;

    use crate::collector::handover::listener::Listener;
    use crate::os::child::BindReporter;
    use crate::os::wait::Waitable;

    #[derive(Debug)]
    pub enum BindChannel {}

    impl BindChannel {
        pub fn pair() -> io::Result<(BindChannel, BindReporter)> {
            Err(io::Error::new(io::ErrorKind::Unsupported, super::REASON))
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Served {
        Nothing,
        Binds,
        Ended,
    }

    #[derive(Debug)]
    pub enum Refusal {
        Unfiltered(String),
        Lost(io::Error),
    }

    #[derive(Debug)]
    pub enum BindWatch {}

    impl BindWatch {
        pub fn accept(channel: &BindChannel, _child: u32) -> Result<BindWatch, Refusal> {
            match *channel {}
        }

        pub fn waitable(&self) -> Waitable<'_> {
            match *self {}
        }

        pub fn socket_files(&mut self) -> Vec<std::path::PathBuf> {
            match *self {}
        }

        pub fn serve(&mut self, _partners: &[&BindWatch]) -> Served {
            match *self {}
        }

        pub fn has_ended(&self) -> bool {
            match *self {}
        }

        pub fn ask_strays_to_end(&self) -> Vec<u32> {
            match *self {}
        }

        pub fn kill_strays(&self) {
            match *self {}
        }

        pub fn listeners(&self) -> Result<Vec<Listener>, String> {
            match *self {}
        }

        pub fn shareable(&self) -> Result<(), String> {
            match *self {}
        }

        pub fn saw_all(&self) -> bool {
            match *self {}
        }

        pub fn wanted_twice(&self) -> Option<u16> {
            match *self {}
        }
    }
}

pub mod health_target {
    use std::net::SocketAddr;

    use super::binds::BindWatch;
    use crate::config::inspect::Binding;

    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum NoTarget {
        NotListening,
        Ambiguous,
    }

    pub fn of_new(
        old: &BindWatch,
        _new: &BindWatch,
        _named: &[SocketAddr],
    ) -> Result<Result<SocketAddr, NoTarget>, String> {
        match *old {}
    }

    pub fn foresee(old: &BindWatch, _new: Binding, _named: &[SocketAddr]) -> Result<(), String> {
        match *old {}
    }

    pub fn ambiguous(_at: SocketAddr) -> String {
        super::REASON.to_string()
    }
}

pub mod steering {
    use super::binds::BindWatch;
    use crate::collector::handover::listener::Listener;

    pub fn hold(old: &BindWatch) -> Result<(), String> {
        match *old {}
    }

    pub fn to_new(old: &BindWatch, _new: &BindWatch) -> Result<(), String> {
        match *old {}
    }

    pub fn to_old(old: &BindWatch, _new: &BindWatch) -> Result<(), String> {
        match *old {}
    }

    pub fn release(left: &BindWatch) {
        match *left {}
    }

    pub fn missing(old: &BindWatch, _new: &BindWatch) -> Vec<Listener> {
        match *old {}
    }
}

pub mod widened {
    use super::binds::BindWatch;
    use crate::collector::handover::listener::Listener;

    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Closed {
        pub listeners: Vec<Listener>,
        pub is_local: bool,
    }

    pub fn close(old: &BindWatch, _new: &BindWatch) -> Result<Closed, String> {
        match *old {}
    }

    pub fn is_drained(old: &BindWatch, _new: &BindWatch) -> bool {
        match *old {}
    }

    pub fn reopen(old: &BindWatch) {
        match *old {}
    }
}
