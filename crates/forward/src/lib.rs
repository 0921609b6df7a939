//! Outgoing HTTP for gateways: header hygiene, path joining, streaming, deadlines.
