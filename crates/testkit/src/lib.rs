//! Upstreams and clients for tests: echo, streams, stalls, broken answers.
