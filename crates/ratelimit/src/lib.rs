//! Tower layer that limits requests per client, with draft RateLimit header fields.
