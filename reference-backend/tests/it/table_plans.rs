//! Which index serves which statement.
