//! Tower layer for signed-cookie sessions in the format of express-session.
