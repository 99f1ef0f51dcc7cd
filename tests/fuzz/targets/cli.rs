//! The command line, its words separated by zero bytes: any words are a mode with flags, or an error with status 64.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use kmagent::cmd::cli;
use kmagent::error::Exit;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|words: &[u8]| {
    let words = words.split(|&byte| byte == 0).map(|word| OsString::from_vec(word.to_vec()));
    if let Err(error) = cli::parse(words) {
        assert_eq!(error.exit(), Exit::Usage, "{error}");
    }
});
