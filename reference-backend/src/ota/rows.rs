//! What exchanges read and write: the connection, what is for sale, the bookings, the record.

use std::collections::BTreeMap;

use chrono::{NaiveDate, Utc};
use serde_json::Value;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::channel_manager::{Booking, BookingStatus, DayForSale};
use super::exchange::{Exchange, ExchangeError, Wanted};
use crate::db::{Database, Databases, Freshness, WriteToken};
use crate::domain::{Amount, Day, OrgId};

/// The part of a connection that an exchange needs.
#[derive(Debug, FromRow)]
pub(super) struct Connection {
    pub(super) hotel_code: String,
    pub(super) rate_cents: i64,
    pub(super) push_days: i32,
    pub(super) enabled: bool,
    pub(super) pulled_to: i64,
}

const CONNECTION: &str = "\
    SELECT hotel_code, rate_cents, push_days, enabled, pulled_to FROM ota_connections \
    WHERE org_id = $1 AND property_id = $2";

const EXCHANGE: &str = "\
    SELECT id, property_id, kind, outcome, items, detail, began_at, ended_at FROM ota_exchanges \
    WHERE org_id = $1 AND id = $2";

/// The connection, and what is on record under the exchange's id.
pub(super) async fn look_up(
    databases: &Databases,
    wanted: Wanted,
) -> sqlx::Result<(Option<Connection>, Option<Exchange>)> {
    let org = wanted.org.get();
    let mut writer = databases.write(Database::Hospitality).acquire().await?;
    let connection = sqlx::query_as(CONNECTION).bind(org).bind(wanted.property);
    let connection = connection.fetch_optional(&mut *writer).await?;
    Ok((connection, on_record(&mut writer, wanted.org, wanted.id).await?))
}

async fn on_record(
    connection: &mut PgConnection,
    org: OrgId,
    id: Uuid,
) -> sqlx::Result<Option<Exchange>> {
    sqlx::query_as(EXCHANGE).bind(org.get()).bind(id).fetch_optional(connection).await
}

/// A token that shows all that was written so far.
pub(super) async fn token(databases: &Databases) -> sqlx::Result<WriteToken> {
    let mut writer = databases.write(Database::Hospitality).acquire().await?;
    databases.flushed(&mut writer).await.map(WriteToken)
}

/// Rooms that can be sold less nights that are sold. A property whose rooms nobody entered has as many as its record says.
const FOR_SALE: &str = "\
    WITH nights AS ( \
        SELECT generate_series(greatest(arrival, $3), least(departure, $3 + $4) - 1, interval '1 day')::date AS night \
        FROM reservations WHERE org_id = $1 AND property_id = $2 AND arrival < $3 + $4 AND departure > $3 \
        AND status IN ('booked', 'checked_in')), \
    listed AS ( \
        SELECT count(*) AS rooms, count(*) FILTER (WHERE status <> 'out_of_order') AS usable \
        FROM rooms WHERE org_id = $1 AND property_id = $2), \
    house AS ( \
        SELECT CASE WHEN listed.rooms > 0 THEN listed.usable ELSE properties.rooms END AS rooms \
        FROM properties, listed WHERE org_id = $1 AND property_id = $2) \
    SELECT day::date AS date, greatest(0, house.rooms - count(night))::int AS available \
    FROM house, generate_series($3, $3 + $4 - 1, interval '1 day') AS day LEFT JOIN nights ON night = day::date \
    GROUP BY day, house.rooms ORDER BY day";

/// What is for sale from today on.
pub(super) async fn for_sale(
    databases: &Databases,
    wanted: Wanted,
    connection: &Connection,
) -> sqlx::Result<Vec<DayForSale>> {
    let (today, days) = (Utc::now().date_naive(), connection.push_days);
    let mut reader = databases.read(Database::Hospitality, Freshness::Any);
    let query = || {
        sqlx::query_as(FOR_SALE).bind(wanted.org.get()).bind(wanted.property).bind(today).bind(days)
    };
    let rows: Vec<(NaiveDate, i32)> = reader.fetch_all(query).await?;
    let rate_cents = connection.rate_cents;
    let day = |(date, available)| DayForSale { date, available, rate_cents };
    Ok(rows.into_iter().map(day).collect())
}

const REFERENCE_CHARS_MAX: usize = 100;
const NAME_CHARS_MAX: usize = 200;

/// The bookings that the tables take; of several under one reference the last.
pub(super) fn usable(given: &[Value]) -> Vec<Booking> {
    let parsed = given.iter().filter_map(|value| serde_json::from_value(value.clone()).ok());
    let sound = parsed.filter(|booking: &Booking| {
        let named =
            |text: &str, max| (1..=max).contains(&text.chars().count()) && !text.contains('\0');
        let dated =
            Day::try_from(booking.arrival).is_ok() && Day::try_from(booking.departure).is_ok();
        named(&booking.reference, REFERENCE_CHARS_MAX)
            && named(&booking.guest_name, NAME_CHARS_MAX)
            && dated
            && booking.departure > booking.arrival
            && (0..=Amount::MAX_CENTS).contains(&booking.amount_cents)
    });
    // One statement cannot change a row twice.
    let by_reference: BTreeMap<String, Booking> =
        sound.map(|booking| (booking.reference.clone(), booking)).collect();
    by_reference.into_values().collect()
}

/// New ones are added; known ones follow the channel manager, except that it does not undo what happened in the house.
const TAKE_IN: &str = "\
    INSERT INTO reservations (org_id, id, property_id, guest_name, arrival, departure, status, source, external_ref, amount_cents) \
    SELECT $1, id, $2, guest_name, arrival, departure, status, 'ota', external_ref, amount_cents \
    FROM unnest($3::uuid[], $4::text[], $5::date[], $6::date[], $7::text[], $8::text[], $9::bigint[]) \
        AS new (id, guest_name, arrival, departure, status, external_ref, amount_cents) \
    ON CONFLICT (org_id, external_ref) WHERE external_ref IS NOT NULL DO UPDATE SET \
        guest_name = EXCLUDED.guest_name, arrival = EXCLUDED.arrival, departure = EXCLUDED.departure, \
        status = EXCLUDED.status, amount_cents = EXCLUDED.amount_cents, \
        version = reservations.version + 1, updated_at = now() \
    WHERE reservations.status IN ('booked', 'cancelled') AND reservations.property_id = EXCLUDED.property_id \
        AND (reservations.guest_name, reservations.arrival, reservations.departure, reservations.status, reservations.amount_cents) \
        IS DISTINCT FROM (EXCLUDED.guest_name, EXCLUDED.arrival, EXCLUDED.departure, EXCLUDED.status, EXCLUDED.amount_cents)";

const PULLED: &str = "\
    UPDATE ota_connections SET pulled_to = greatest(pulled_to, $3) \
    WHERE org_id = $1 AND property_id = $2 AND hotel_code = $4";

/// Space of the ids of reservations that the channel manager made.
const RESERVATIONS: Uuid = Uuid::from_u128(0x3f0a_91c4_2d5e_4f57_8a43_0b6f_6c1d_e2a9);

/// Writes a page of bookings and how far they go, in one transaction. Nothing is written, and false answered, when the property
/// is connected to another hotel by now: a place in one hotel's list is none in the other's, and would skip its bookings.
pub(super) async fn take_in(
    databases: &Databases,
    wanted: Wanted,
    connection: &Connection,
    bookings: &[Booking],
    pulled_to: i64,
) -> sqlx::Result<bool> {
    let org = wanted.org.get();
    // A reference is the hotel's own: another hotel of the organisation may have it too.
    let refs =
        bookings.iter().map(|booking| format!("{}/{}", connection.hotel_code, booking.reference));
    let refs: Vec<String> = refs.collect();
    let ids = refs
        .iter()
        .map(|reference| Uuid::new_v5(&RESERVATIONS, format!("{org}/{reference}").as_bytes()));
    let status = bookings.iter().map(|booking| match booking.status {
        BookingStatus::Booked => "booked",
        BookingStatus::Cancelled => "cancelled",
    });
    let mut transaction = databases.write(Database::Hospitality).begin().await?;
    let pulled = sqlx::query(PULLED)
        .bind(org)
        .bind(wanted.property)
        .bind(pulled_to)
        .bind(&connection.hotel_code)
        .execute(&mut *transaction)
        .await?;
    if pulled.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(false);
    }
    sqlx::query(TAKE_IN)
        .bind(org)
        .bind(wanted.property)
        .bind(ids.collect::<Vec<_>>())
        .bind(bookings.iter().map(|booking| booking.guest_name.as_str()).collect::<Vec<_>>())
        .bind(bookings.iter().map(|booking| booking.arrival).collect::<Vec<_>>())
        .bind(bookings.iter().map(|booking| booking.departure).collect::<Vec<_>>())
        .bind(status.collect::<Vec<_>>())
        .bind(&refs)
        .bind(bookings.iter().map(|booking| booking.amount_cents).collect::<Vec<_>>())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(true)
}

/// A failure gives way to whatever comes after it under the same id; nothing else does.
const RECORD: &str = "\
    INSERT INTO ota_exchanges AS old (org_id, id, property_id, kind, outcome, items, detail, began_at, ended_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
    ON CONFLICT (org_id, id) DO UPDATE SET outcome = EXCLUDED.outcome, items = EXCLUDED.items, \
        detail = EXCLUDED.detail, began_at = EXCLUDED.began_at, ended_at = EXCLUDED.ended_at \
    WHERE old.outcome = 'failed' AND old.property_id = EXCLUDED.property_id AND old.kind = EXCLUDED.kind";

/// Puts an exchange on record; answers what is there, which may be another request's of the same id.
pub(super) async fn record(
    databases: &Databases,
    org: OrgId,
    exchange: Exchange,
) -> Result<(Exchange, WriteToken), ExchangeError> {
    let mut writer = databases.write(Database::Hospitality).acquire().await?;
    let done = sqlx::query(RECORD)
        .bind(org.get())
        .bind(exchange.id)
        .bind(exchange.property_id)
        .bind(exchange.kind)
        .bind(exchange.outcome)
        .bind(exchange.items)
        .bind(&exchange.detail)
        .bind(exchange.began_at)
        .bind(exchange.ended_at)
        .execute(&mut *writer)
        .await?;
    let kept = if done.rows_affected() == 1 {
        exchange
    } else {
        let found = on_record(&mut writer, org, exchange.id).await?;
        let same = |found: &Exchange| {
            (found.property_id, found.kind) == (exchange.property_id, exchange.kind)
        };
        found.filter(same).ok_or(ExchangeError::OtherWithId)?
    };
    let token = WriteToken(databases.flushed(&mut writer).await?);
    Ok((kept, token))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_tables_would_refuse_is_left_out_and_the_last_of_a_reference_counts() {
        let booking = |change: Value| {
            let mut booking = json!({"reference": "A1", "guest_name": "Ada", "arrival": "2026-12-01",
                "departure": "2026-12-03", "status": "booked", "amount_cents": 200});
            booking.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            booking
        };
        let given = [
            booking(json!({})),
            booking(json!({"status": "cancelled", "unknown": 1})),
            booking(json!({"reference": "A2", "departure": "2026-12-01"})),
            booking(json!({"reference": "A3", "amount_cents": -1})),
            booking(json!({"reference": "A4", "guest_name": ""})),
            booking(json!({"reference": "A5", "guest_name": "a\u{0}"})),
            booking(json!({"reference": "A6", "arrival": "-200000-01-01"})),
            booking(json!({"reference": "A7", "status": "maybe"})),
            json!(7),
        ];
        let left = usable(&given);
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0].status, BookingStatus::Cancelled);
    }
}
