//! Tower layer that bounds request bodies by content type.
