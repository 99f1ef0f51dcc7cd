//! The settings file: any bytes are settings or problems with line numbers, and neither a panic nor endless.
#![no_main]

use std::ffi::OsString;
use std::sync::LazyLock;

use kmagent::error::Exit;
use kmagent::settings;
use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<std::path::PathBuf> = LazyLock::new(|| {
    let directory = std::env::temp_dir().join(format!("km-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    directory.join("agent.yaml")
});

fuzz_target!(|text: &[u8]| {
    std::fs::write(&*FILE, text).unwrap();
    let environment = |name: &str| (name == "KM_AGENT_CONFIG").then(|| OsString::from(FILE.as_os_str()));
    match settings::resolve(&[], &environment) {
        Ok(resolved) => assert!(!settings::print::render(&resolved.rows).is_empty()),
        Err(error) => assert_eq!(error.exit(), Exit::Settings, "{error}"),
    }
});
