//! config.yaml of ProActions Hub, read, expanded and checked.
