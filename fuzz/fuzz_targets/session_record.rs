//! A record as Redis gives it back. Input: its bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proactions_session_store::Record;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(record) = Record::parse(data) else {
        return;
    };
    assert_eq!(record.source(), Some(data));
    let written = record.to_json();

    // Whatever somebody else has put into the record is still there, and says the same.
    let before: Value = serde_json::from_slice(data).expect("a record is JSON");
    let after: Value = serde_json::from_str(&written).expect("what is written is JSON");
    assert_eq!(before, after);
    for (name, value) in before.as_object().expect("a record is an object") {
        if name != "cookie" {
            assert_eq!(record.get(name), Some(value));
        }
    }

    // Reading and writing again changes nothing, so that two services do not undo each other's work for ever.
    if written.len() <= Record::MAX_LEN {
        let again = Record::parse(written.as_bytes()).expect("what is written is a record");
        let read: Value = serde_json::from_str(&again.to_json()).expect("what is written is JSON");
        assert_eq!(read, after);
        assert_eq!(again.created_at(), record.created_at());
    }
});
