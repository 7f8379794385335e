//! The stack: Postgres primary, its replicas and the backend, as supervised child processes.
