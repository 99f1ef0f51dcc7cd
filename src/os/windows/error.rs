//! What an error of the system means, where `std::io::ErrorKind` does not say.

use std::io;

/// Whether it is the system that has nothing left, whatever it was asked for.
pub fn is_out_of_resources(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}

/// What a person can do about a program that cannot be executed; empty when the error says it all.
pub fn remedy_for_spawn(_error: &io::Error) -> &'static str {
    ""
}
