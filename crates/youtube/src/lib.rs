//! OAuth and resumable uploads for YouTube accounts.
