//! How to connect to a server of the stack.

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use crate::scenario::PostgresEndpoint;

/// Through the socket, as `role`; `part` is the part of plimsoll as `pg_stat_activity` names it. Neither the
/// environment nor a password file has a say.
pub(crate) fn connect_options(
    endpoint: &PostgresEndpoint,
    role: &str,
    part: &str,
) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(&endpoint.socket_dir)
        .port(endpoint.port)
        .username(role)
        .application_name(&format!("plimsoll {part}"))
        // A statement of ours over a million rows is slow, and no news to whoever watches.
        .disable_statement_logging()
}
