//! ProActions Hub, the hardened AI gateway.
