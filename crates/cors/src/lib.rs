//! Tower layer for cross-origin requests that refuses what it does not know.
