//! The API's answer, from bytes to the YAML file: what is read back is what was sent, and nothing else comes of any
//! input.
#![no_main]

use kmagent::config::yaml;
use kmagent::source::kloudmate::answer;
use libfuzzer_sys::fuzz_target;

/// More than an input of libFuzzer's has room for.
const MAX_VALUES: usize = 1 << 20;
/// Each level of nesting indents what is in it.
const MAX_BYTES: u64 = 1 << 30;

fuzz_target!(|body: &[u8]| {
    let Ok(answer) = answer::decode(body, MAX_VALUES, |_| String::new()) else { return };
    let Some(config) = answer.config else { return };
    // What was sent, by a reader that is none of ours; it minds what is wrong in other fields.
    if let Ok(sent) = serde_json::from_slice::<serde_json::Value>(body) {
        let got: serde_json::Value = serde_json::from_str(&config.canonical()).expect("JSON");
        assert_eq!(sent["config"], got);
    }
    let text = yaml::render(&config);
    // Go's YAML reader, which is the collector's, refuses these outright (yaml_parser_update_buffer in go-yaml).
    assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "a control character: {text:?}");
    let back = yaml::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    assert_eq!(back.canonical(), config.canonical(), "{text:?}");
    assert_eq!(yaml::render_proven(&config, MAX_BYTES).ok(), Some(text));
});
