//! The population: synthetic organisations, computed, copied into the databases and verified there.
