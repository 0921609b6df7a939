//! JSON as a tree of values, of bounded size.
//!
//! Two bytes of text, or far less where it came compressed, become some hundred in a tree.

use serde::de::DeserializeOwned;

/// How many values may be read for one request, or one answer; a long chat with many tools has some thousand.
pub(crate) const MAX_VALUES: usize = 100_000;

/// Why there is no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TreeError {
    Syntax,
    TooLarge,
}

/// How many more values may be read.
#[derive(Debug)]
pub(crate) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(MAX_VALUES)
    }
}

impl Budget {
    pub(crate) fn read<T: DeserializeOwned>(&mut self, json: &[u8]) -> Result<T, TreeError> {
        let left = self.0.checked_sub(values(json));
        self.0 = left.ok_or(TreeError::TooLarge)?;
        serde_json::from_slice(json).map_err(|_| TreeError::Syntax)
    }
}

/// Reads a text that has a budget of its own.
pub(crate) fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, TreeError> {
    Budget::default().read(json)
}

/// How many values the text holds at most: each but the first stands behind a bracket, a brace or a comma.
fn values(json: &[u8]) -> usize {
    let mut found = 1;
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => {
                            bytes.next();
                        }
                        _ => {}
                    }
                }
            }
            b',' | b'[' | b'{' => found += 1,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn count(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
            Value::Object(members) => 1 + members.values().map(count).sum::<usize>(),
            _ => 1,
        }
    }

    #[test]
    fn what_stands_in_strings_is_no_value() {
        for (json, found) in [
            ("1", 1),
            (r#""[,{\",[""#, 1),
            (r#"["a,b","\\",{"c,":"[["}]"#, 5),
            (r#"{"a":1,"b":[2,3]}"#, 5),
        ] {
            assert_eq!(values(json.as_bytes()), found, "{json}");
        }
    }

    #[test]
    fn a_budget_counts_all_that_is_read() {
        let mut budget = Budget::default();
        let half = format!("[{}0]", "0,".repeat(MAX_VALUES / 2 - 2));
        assert!(budget.read::<Value>(half.as_bytes()).is_ok());
        assert_eq!(budget.read::<Value>(b"{"), Err(TreeError::Syntax));
        assert_eq!(
            budget.read::<Value>(half.as_bytes()),
            Err(TreeError::TooLarge)
        );
        assert!(read::<Value>(half.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn no_tree_has_more_values_than_were_counted(json in r#"[\[{]("[a,\[{]{0,3}(\\\\|\\"|\\n)?"|[\[\]{},:1 ]){0,24}[\]}]"#) {
            if let Ok(value) = serde_json::from_str::<Value>(&json) {
                prop_assert!(count(&value) <= values(json.as_bytes()));
            }
        }
    }
}
