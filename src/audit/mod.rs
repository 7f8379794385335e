//! The audit: what the client was told, held against what the databases hold.
