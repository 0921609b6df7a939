//! Tower layer that finds the client's address, scheme and host behind trusted proxies.
