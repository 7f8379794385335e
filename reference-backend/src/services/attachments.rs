//! What `receipts`, `guest-documents` and the images of tasks have in common: content that is attached to something. The
//! content is an object, and a row names it: written after the object, removed before it.

use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

use super::table::{After, Limit, Written, list};
use crate::db::{Database, Freshness, WriteToken};
use crate::domain::OrgId;
use crate::gateway::{App, CONSISTENCY_TOKEN, Download, Held, Problem, Reply, Tag, Upload, hex};
use crate::objects::{Bucket, Digest, Key, Media, ObjectsError, Refusal};

/// A table of attachments, and its bucket.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) bucket: Bucket,
    pub(super) database: Database,
    /// What one is called in refusals, and in names of files.
    pub(super) noun: &'static str,
    /// What that is called to which it is attached.
    pub(super) parent: &'static str,
    pub(super) insert: &'static str,
    pub(super) one: &'static str,
    pub(super) list: &'static str,
    pub(super) delete: &'static str,
}

/// A [`Kind`] with the statements of its table; these tables have the same columns. Lists are served by the primary key, or by
/// the index on the parent.
macro_rules! kind {
    ($bucket:ident in $database:ident, $table:literal, $noun:literal of $parent:literal) => {
        $crate::services::attachments::Kind {
            bucket: $crate::objects::Bucket::$bucket,
            database: $crate::db::Database::$database,
            noun: $noun,
            parent: $parent,
            insert: concat!(
                "INSERT INTO ",
                $table,
                " (org_id, id, parent_id, object, media, bytes, sha256) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (org_id, id) DO NOTHING \
                  RETURNING id, parent_id, object, media, bytes, sha256, created_at"
            ),
            one: concat!(
                "SELECT id, parent_id, object, media, bytes, sha256, created_at FROM ",
                $table,
                " WHERE org_id = $1 AND id = $2 AND ($3::uuid IS NULL OR parent_id = $3)"
            ),
            list: concat!(
                "SELECT id, parent_id, object, media, bytes, sha256, created_at FROM ",
                $table,
                " WHERE org_id = $1 AND ($2::uuid IS NULL OR parent_id = $2) \
                  AND ($3::uuid IS NULL OR id > $3) ORDER BY id LIMIT $4"
            ),
            delete: concat!(
                "DELETE FROM ",
                $table,
                " WHERE org_id = $1 AND id = $2 AND ($3::uuid IS NULL OR parent_id = $3) \
                  RETURNING object"
            ),
        }
    };
}
pub(super) use kind;

#[derive(Debug, FromRow)]
struct Row {
    id: Uuid,
    parent_id: Uuid,
    object: Uuid,
    media: String,
    bytes: i64,
    sha256: Vec<u8>,
    created_at: DateTime<Utc>,
}

/// Content that is attached to something.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Attachment {
    id: Uuid,
    /// To what: an expense, a check-in or a task.
    attached_to: Uuid,
    content_type: String,
    #[schema(minimum = 1)]
    bytes: i64,
    /// SHA-256 of the content, in hexadecimal digits; also the content's `ETag`.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    sha256: String,
    created_at: DateTime<Utc>,
}

impl From<Row> for Attachment {
    fn from(row: Row) -> Self {
        let Row { id, parent_id, media, bytes, sha256, created_at, .. } = row;
        let sha256 = hex(&sha256);
        Self { id, attached_to: parent_id, content_type: media, bytes, sha256, created_at }
    }
}

impl Row {
    /// Whether an upload is the one that this row came from.
    fn is_of(&self, parent: Uuid, media: Media, digest: &Digest) -> bool {
        self.parent_id == parent && self.media == media.name() && self.sha256 == digest.sha256
    }
}

/// What names an attachment. With a parent, only one of that parent is found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    pub(super) org: OrgId,
    pub(super) id: Uuid,
    pub(super) parent: Option<Uuid>,
}

/// An attachment to be: the client's id for it, and what it belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct New {
    pub(super) org: OrgId,
    pub(super) id: Uuid,
    pub(super) parent: Uuid,
}

/// Takes content in and attaches it, if the organisation has the parent, which `known` finds out. The same upload again is
/// answered as the first was; another one under the same key is refused.
pub(super) async fn upload(
    app: &App,
    kind: &Kind,
    new: New,
    mut upload: Upload,
    known: impl Future<Output = Result<bool, Problem>>,
) -> Result<Written<Attachment>, Problem> {
    let taken = take(app, kind, new, &mut upload, known).await;
    if taken.is_err() {
        upload.discard().await;
    }
    taken
}

async fn take(
    app: &App,
    kind: &Kind,
    new: New,
    Upload { media, body }: &mut Upload,
    known: impl Future<Output = Result<bool, Problem>>,
) -> Result<Written<Attachment>, Problem> {
    let media = accepted(kind.bucket, *media)?;
    if let Some(first) = first(app, kind, new).await? {
        let digest = app.objects.digest(kind.bucket, media, body).await?;
        return again(app, kind, first, new, media, &digest).await;
    }
    if !known.await? {
        return Err(no_parent(kind, new));
    }
    let (key, digest) = app.objects.put(kind.bucket, new.org, media, body).await?;
    let bytes = i64::try_from(digest.bytes).expect("limits are far below");
    let insert = sqlx::query_as(kind.insert)
        .bind(new.org.get())
        .bind(new.id)
        .bind(new.parent)
        .bind(key.object)
        .bind(media.name())
        .bind(bytes)
        .bind(digest.sha256.as_slice());
    let inserted: sqlx::Result<Option<Row>> =
        insert.fetch_optional(app.databases.write(kind.database)).await;
    match inserted {
        Ok(Some(row)) => written(app, kind, row).await,
        // Another upload under the same key was faster.
        Ok(None) => {
            remove(app, kind.bucket, key).await;
            let first = first(app, kind, new).await?;
            let first = first.ok_or_else(|| Problem::unavailable("it has just been removed"))?;
            again(app, kind, first, new, media, &digest).await
        }
        Err(sqlx::Error::Database(error)) => {
            remove(app, kind.bucket, key).await;
            // The parent went while the content came.
            let orphan = error.is_foreign_key_violation();
            Err(if orphan { no_parent(kind, new) } else { sqlx::Error::Database(error).into() })
        }
        // Nobody knows whether the row was written. If it was not, the sweep finds the object.
        Err(error) => Err(error.into()),
    }
}

/// The type, if the bucket takes it.
pub(super) fn accepted(bucket: Bucket, media: Media) -> Result<Media, Problem> {
    if bucket.takes().contains(&media) {
        return Ok(media);
    }
    let names: Vec<_> = bucket.takes().iter().map(|media| media.name()).collect();
    Err(Problem::unsupported_type(format!(
        "{} is not taken here; {} are",
        media.name(),
        names.join(", ")
    )))
}

/// Removes an object whose row is gone, or never was. What fails here is left to the sweep.
pub(super) async fn remove(app: &App, bucket: Bucket, key: Key) {
    if let Err(error) = app.objects.delete(bucket, key).await {
        tracing::warn!(%error, "an object is left to the next sweep");
    }
}

fn no_parent(kind: &Kind, New { org, parent, .. }: New) -> Problem {
    Problem::not_found(format!("organisation {org} has no {} {parent}", kind.parent))
}

/// What an earlier upload under the same key wrote. From the primary: a replica may not have it yet.
async fn first(app: &App, kind: &Kind, new: New) -> Result<Option<Row>, Problem> {
    let New { org, id, .. } = new;
    let query = sqlx::query_as(kind.one).bind(org.get()).bind(id).bind(None::<Uuid>);
    Ok(query.fetch_optional(app.databases.write(kind.database)).await?)
}

/// The first answer, to the same upload.
async fn again(
    app: &App,
    kind: &Kind,
    first: Row,
    new: New,
    media: Media,
    digest: &Digest,
) -> Result<Written<Attachment>, Problem> {
    if first.is_of(new.parent, media, digest) {
        return written(app, kind, first).await;
    }
    Err(Problem::invalid(format!("the Idempotency-Key {} was used for another request", new.id)))
}

async fn written(app: &App, kind: &Kind, row: Row) -> Result<Written<Attachment>, Problem> {
    let mut connection = app.databases.write(kind.database).acquire().await?;
    let token = WriteToken(app.databases.flushed(&mut connection).await?);
    Ok(Written { status: StatusCode::CREATED, body: row.into(), token })
}

/// A page of attachments, of one parent or of all, in the order of their ids.
pub(super) async fn page(
    app: &App,
    kind: &Kind,
    (org, parent): (OrgId, Option<Uuid>),
    (limit, after): (Limit, Option<After>),
    freshness: Freshness,
) -> Result<(Vec<Attachment>, Option<After>, &'static str), Problem> {
    let query = || {
        let query = sqlx::query_as(kind.list).bind(org.get()).bind(parent);
        query.bind(after.map(|after| after.id)).bind(limit.rows())
    };
    let (rows, server) = list::<Row>(app, kind.database, freshness, query).await?;
    let (rows, next) = limit.page(rows, |row| After { key: (), id: row.id });
    Ok((rows.into_iter().map(Attachment::from).collect(), next, server))
}

async fn find(
    app: &App,
    kind: &Kind,
    Name { org, id, parent }: Name,
    freshness: Freshness,
) -> Result<(Row, &'static str), Problem> {
    let mut reader = app.databases.read(kind.database, freshness);
    let query = || sqlx::query_as(kind.one).bind(org.get()).bind(id).bind(parent);
    let found: Option<Row> = reader.fetch_optional(query).await?;
    let row = found.ok_or_else(|| none(kind, org, id))?;
    Ok((row, reader.source().server()))
}

fn none(kind: &Kind, org: OrgId, id: Uuid) -> Problem {
    Problem::not_found(format!("organisation {org} has no {} {id}", kind.noun))
}

/// What is known of one attachment.
pub(super) async fn show(
    app: &App,
    kind: &Kind,
    name: Name,
    freshness: Freshness,
) -> Result<Reply, Problem> {
    let (row, server) = find(app, kind, name, freshness).await?;
    Ok(Reply::json(&Attachment::from(row), server))
}

/// The content of one attachment, or that the client holds it already.
pub(super) async fn download(
    app: &App,
    kind: &Kind,
    name: Name,
    held: &Held,
    freshness: Freshness,
) -> Result<Response, Problem> {
    let (row, _) = find(app, kind, name, freshness).await?;
    let key = Key { org: name.org, object: row.object };
    let file = File {
        name: format!("{}-{}", kind.noun.replace(' ', "-"), row.id),
        media: &row.media,
        sha256: &row.sha256,
    };
    if let Some(content) = content(app, kind.bucket, key, file, held).await? {
        return Ok(content);
    }
    // Either it was removed, and the row came from a replica that has yet to learn it, or the store has lost it.
    find(app, kind, name, Freshness::Newest).await?;
    Err(lost(kind.bucket, key))
}

/// What a row says of its object.
#[derive(Debug)]
pub(super) struct File<'a> {
    /// To keep it under, without the ending.
    pub(super) name: String,
    pub(super) media: &'a str,
    pub(super) sha256: &'a [u8],
}

/// An object's content, or that the client holds it already; nothing where the object is not there.
pub(super) async fn content(
    app: &App,
    bucket: Bucket,
    key: Key,
    File { name, media, sha256 }: File<'_>,
    held: &Held,
) -> Result<Option<Response>, Problem> {
    let tag = Tag::new(sha256);
    if tag.is(held) {
        return Ok(Some(tag.unchanged()));
    }
    let media = Media::from_content_type(media).ok_or_else(Problem::internal)?;
    let content = app.objects.get(bucket, key).await?;
    Ok(content.map(|content| Download { name, media, tag, content }.into_response()))
}

/// 500: a row names an object that is not there.
pub(super) fn lost(bucket: Bucket, key: Key) -> Problem {
    tracing::error!(bucket = bucket.name(), object = %key, "the object of a row is not there");
    Problem::internal()
}

/// Removes one attachment: the row first, so that it is never shown without its content.
pub(super) async fn delete(app: &App, kind: &Kind, name: Name) -> Result<Response, Problem> {
    let Name { org, id, parent } = name;
    let mut connection = app.databases.write(kind.database).acquire().await?;
    let query = sqlx::query_scalar(kind.delete).bind(org.get()).bind(id).bind(parent);
    let object: Option<Uuid> = query.fetch_optional(&mut *connection).await?;
    let object = object.ok_or_else(|| none(kind, org, id))?;
    let token = WriteToken(app.databases.flushed(&mut connection).await?);
    drop(connection);
    remove(app, kind.bucket, Key { org, object }).await;
    Ok(gone(token))
}

/// 204, with the token of the removal.
pub(super) fn gone(token: WriteToken) -> Response {
    let token = [(HeaderName::from_static(CONSISTENCY_TOKEN), token.to_string())];
    (StatusCode::NO_CONTENT, token).into_response()
}

impl From<ObjectsError> for Problem {
    fn from(error: ObjectsError) -> Self {
        let detail = error.to_string();
        match error {
            ObjectsError::Refused(Refusal::TooLarge { bytes_max }) => {
                Self::too_large(usize::try_from(bytes_max).unwrap_or(usize::MAX))
            }
            ObjectsError::Refused(Refusal::Empty | Refusal::OtherType(_)) => Self::invalid(detail),
            ObjectsError::CutOff => Self::malformed(detail),
            ObjectsError::Busy => Self::unavailable(detail),
            ObjectsError::Store { .. } => {
                tracing::error!("{detail}");
                Self::unavailable("the object store cannot answer now")
            }
        }
    }
}
