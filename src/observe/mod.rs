//! Observation: the backend's figures, each Postgres, and `/proc`, once a second on one time axis.
