//! The state files: what is kept, when it is written, and what is made of a file that is not to be read.

use super::*;
use crate::config::value::Value;
use crate::os::unix::files::test_dir::{Dir, mode, read, write};

const NAME: &str = "x.json";

fn open(dir: &Dir) -> Record<String> {
    Record::open(dir.path(), NAME)
}

fn kept(record: &Record<String>) -> Option<&str> {
    record.get().map(String::as_str)
}

#[test]
fn what_is_set_is_there_for_the_next_one() {
    let dir = Dir::new();
    let mut record = open(&dir);
    assert_eq!(kept(&record), None);
    record.set(Some("a".into())).unwrap();
    assert_eq!((kept(&record), kept(&open(&dir))), (Some("a"), Some("a")));
    assert_eq!((read(dir.join(NAME)).as_str(), mode(dir.join(NAME))), ("\"a\"\n", 0o600));
    record.set(Some("b".into())).unwrap();
    assert_eq!((kept(&record), kept(&open(&dir))), (Some("b"), Some("b")));
    record.set(None).unwrap();
    assert_eq!((kept(&record), kept(&open(&dir)), dir.names(".").len()), (None, None, 0));
}

#[test]
fn it_is_written_only_when_it_changes() {
    let dir = Dir::new();
    let mut record = open(&dir);
    record.set(None).unwrap();
    assert_eq!(dir.names(".").len(), 0);
    record.set(Some("a".into())).unwrap();
    let written = FileId::of(&dir.join(NAME));
    record.set(Some("a".into())).unwrap();
    record.settle().unwrap();
    open(&dir).set(Some("a".into())).unwrap();
    assert_eq!(FileId::of(&dir.join(NAME)), written);
    // It was removed by hand: neither a failure nor a reason to write what is kept.
    std::fs::remove_file(dir.join(NAME)).unwrap();
    record.settle().unwrap();
    assert_eq!(dir.names(".").len(), 0);
    record.set(None).unwrap();
}

#[test]
fn what_cannot_be_read_counts_as_absent() {
    let dir = Dir::new();
    for text in ["", "{", "[1]", "\"a\" \"b\""] {
        write(dir.join(NAME), text);
        assert_eq!(kept(&open(&dir)), None, "{text}");
    }
    for (length, is_read) in [(MAX_BYTES as usize - 2, true), (MAX_BYTES as usize - 1, false)] {
        write(dir.join(NAME), &format!("\"{}\"", "x".repeat(length)));
        assert_eq!(kept(&open(&dir)).is_some(), is_read, "{length}");
    }
}

#[test]
fn a_frozen_one_leaves_its_file_as_it_is() {
    let dir = Dir::new();
    write(dir.join(NAME), "\"a\"");
    let mut record = open(&dir);
    record.freeze();
    record.set(Some("b".into())).unwrap();
    assert_eq!((kept(&record), read(dir.join(NAME)).as_str()), (Some("b"), "\"a\""));
    record.set(None).unwrap();
    assert_eq!(read(dir.join(NAME)), "\"a\"");
}

#[test]
fn what_cannot_be_written_is_kept_and_written_later() {
    let dir = Dir::new();
    let mut record = open(&dir);
    // A directory in its place: neither can a file be renamed over it nor can it be unlinked.
    std::fs::create_dir_all(dir.join(NAME).join("in-use")).unwrap();
    for value in [Some("a".to_string()), None, Some("b".to_string())] {
        let error = record.set(value.clone()).unwrap_err();
        assert_eq!((error.exit(), error.what()), (Exit::CannotWrite, "cannot write the agent's state"));
        assert_eq!(record.get(), value.as_ref());
        assert_eq!(record.settle().unwrap_err().exit(), Exit::CannotWrite);
    }
    std::fs::remove_dir_all(dir.join(NAME)).unwrap();
    record.settle().unwrap();
    assert_eq!((kept(&open(&dir)), dir.names(".").len()), (Some("b"), 1));
}

#[test]
fn a_missing_state_directory_is_made() {
    let dir = Dir::new();
    let mut record: Record<String> = Record::open(&dir.join("state"), NAME);
    record.set(Some("a".into())).unwrap();
    assert_eq!((mode(dir.join("state")), read(dir.join("state").join(NAME)).as_str()), (0o700, "\"a\"\n"));
}

#[test]
fn what_was_written_before_there_was_resolved_is_read() {
    let revision = Value::Null.revision();
    let rejected = Rejected { at: 7, ..Rejected::new(revision.clone(), "boom") };
    let text = format!(r#"{{"revision": "{revision}", "problem": "boom", "at": 7}}"#);
    assert_eq!(serde_json::from_str::<Rejected>(&text).unwrap(), rejected);
    // Nor is what it depends on known of those.
    let text = format!(r#"{{"revision": "{revision}", "problem": "boom", "at": 7, "conditions": {{"overlay": "x"}}}}"#);
    let conditions = Box::new(Conditions { overlay: Some("x".into()), ..Conditions::default() });
    assert_eq!(serde_json::from_str::<Rejected>(&text).unwrap(), Rejected { conditions, ..rejected });
}

#[test]
fn now_is_now() {
    let before = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((before..before + 60).contains(&unix_now()));
}

#[test]
fn a_config_is_rejected_under_the_policy_that_refused_it() {
    for (own, holds) in [(None, true), (Some("p"), true), (Some("q"), false)] {
        let policy = own.map(str::to_string);
        let rejected = Rejected { policy, ..Rejected::new(Value::Null.revision(), "") };
        assert_eq!(rejected.holds_under("p"), holds, "{own:?}");
    }
}
