//! Creates. The client names the thing (`Idempotency-Key` is its id), so that a retry is the same create: it gets the first
//! answer again, whatever has become of the thing since. Beside its columns a row keeps how it was created, in `creation`.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::postgres::{PgArguments, PgConnection, Postgres};
use sqlx::query::Query;
use sqlx::types::Json;
use uuid::Uuid;

use super::thing::refusal;
use super::write::timed;
use super::{Created, Written};
use crate::db::WriteToken;
use crate::domain::OrgId;
use crate::gateway::{App, Problem};

/// What the column `creation` holds; NULL in rows that no request created.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Creation {
    /// Of the request's content.
    request: Uuid,
    answer: Value,
}

/// Space of the digests.
const REQUESTS: Uuid = Uuid::from_u128(0x7061_2c2e_5f3b_4b0c_9c57_6f0f_35a1_d1e7);

/// Inserts `row`, or finds that the same request did so before.
///
/// `insert` binds all columns but the last, which is `creation`, and does nothing on conflict of `(org_id, id)`.
pub(in crate::services) async fn create<T: Created>(
    app: &App,
    org: OrgId,
    request: &impl Serialize,
    row: &T,
    insert: Query<'_, Postgres, PgArguments>,
) -> Result<Written<Value>, Problem> {
    let id = row.id();
    let creation = Creation { request: digest(request), answer: to_value(row) };
    let mut connection = app.databases.write(T::DATABASE).acquire().await?;
    let inserted = timed(T::DATABASE, insert.bind(Json(&creation)).execute(&mut *connection)).await;
    let body = match inserted {
        Ok(done) if done.rows_affected() == 1 => creation.answer,
        // Also after a broken constraint: of two equal requests at once, the later can meet the row of the earlier there.
        other => {
            let first = first::<T>(&mut connection, org, id).await;
            match (first, other) {
                (Ok(Some(Some(first))), _) => first.again(creation.request, id)?,
                (_, Err(error)) => return Err(refusal::<T>(&error)),
                (Err(error), _) => return Err(error.into()),
                (Ok(Some(None)), Ok(_)) => return Err(used(id)),
                (Ok(None), Ok(_)) => {
                    return Err(T::FULL.map_or_else(|| used(id), Problem::conflict));
                }
            }
        }
    };
    let token = WriteToken(app.databases.flushed(&mut connection).await?);
    Ok(Written { status: StatusCode::CREATED, body, token })
}

/// The answer to an earlier create under the same key, for creates whose checks may end otherwise by now.
pub(in crate::services) async fn created_before<T: Created>(
    app: &App,
    org: OrgId,
    id: Uuid,
    request: &impl Serialize,
) -> Result<Option<Written<Value>>, Problem> {
    let mut connection = app.databases.write(T::DATABASE).acquire().await?;
    let first = first::<T>(&mut connection, org, id).await?.flatten();
    let Some(first) = first else { return Ok(None) };
    let body = first.again(digest(request), id)?;
    let token = WriteToken(app.databases.flushed(&mut connection).await?);
    Ok(Some(Written { status: StatusCode::CREATED, body, token }))
}

/// The row's creation, if there is a row, and if a request created it.
async fn first<T: Created>(
    connection: &mut PgConnection,
    org: OrgId,
    id: Uuid,
) -> sqlx::Result<Option<Option<Creation>>> {
    let query = sqlx::query_scalar(T::CREATION).bind(org.get()).bind(id);
    let found: Option<Option<Json<Creation>>> = query.fetch_optional(connection).await?;
    Ok(found.map(|creation| creation.map(|Json(creation)| creation)))
}

impl Creation {
    fn again(self, request: Uuid, id: Uuid) -> Result<Value, Problem> {
        if self.request == request { Ok(self.answer) } else { Err(used(id)) }
    }
}

fn used(id: Uuid) -> Problem {
    Problem::invalid(format!("the Idempotency-Key {id} was used for another request"))
}

/// Equal for equal contents, whatever the order of the fields.
fn digest(request: &impl Serialize) -> Uuid {
    Uuid::new_v5(&REQUESTS, to_value(request).to_string().as_bytes())
}

fn to_value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("requests and rows have text keys and finite numbers")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_known_by_its_content() {
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let one = digest(&parse(r#"{"name": "7", "beds": 2}"#));
        assert_eq!(one, digest(&parse(r#"{"beds": 2, "name": "7"}"#)));
        assert_ne!(one, digest(&json!({"name": "7", "beds": 3})));
        assert_ne!(one, digest(&json!({"name": 7, "beds": 2})));
    }
}
