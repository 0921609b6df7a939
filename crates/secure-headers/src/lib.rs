//! Tower layer that sets the security headers of helmet, exactly once on every answer.
