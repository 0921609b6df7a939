//! Gateway service for /v1: targets, providers, streaming, token usage.
