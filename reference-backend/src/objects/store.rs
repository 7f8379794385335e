//! Writes, reads and removes objects. Names are made here from numbers and UUIDs, so that no path can leave its bucket.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use metrics::counter;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::intake::Intake;
use super::place::{self, Place};
use super::{Bucket, Digest, Media, Refusal};
use crate::config::{self, ObjectStoreKind};
use crate::domain::OrgId;

/// Parts of one upload that may be on their way at a time.
const PARTS_AT_ONCE: usize = 2;

/// The name of an object in its bucket: `<org>/<object>`. Each upload has its own, so that no object is ever overwritten, and
/// removing one cannot remove what a later upload of the same row wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Whose it is.
    pub org: OrgId,
    /// The upload that wrote it.
    pub object: Uuid,
}

/// A name that we did not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a name of ours")]
pub struct ForeignKey;

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.org, self.object)
    }
}

impl FromStr for Key {
    type Err = ForeignKey;

    fn from_str(text: &str) -> Result<Self, ForeignKey> {
        let (org, object) = text.split_once('/').ok_or(ForeignKey)?;
        let org = org.parse().ok().and_then(|number| OrgId::new(number).ok()).ok_or(ForeignKey)?;
        let key = Self { org, object: Uuid::try_parse(object).map_err(|_| ForeignKey)? };
        if key.to_string() == text { Ok(key) } else { Err(ForeignKey) }
    }
}

impl From<Key> for Path {
    fn from(key: Key) -> Self {
        Self::from(key.to_string())
    }
}

/// Why an object could not be written, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// The client's fault.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The body ended before its end.
    #[error("the body could not be read to its end")]
    CutOff,
    /// `objects.uploads_max` are in progress.
    #[error("too many uploads are in progress")]
    Busy,
    /// The store's fault.
    #[error("{act} {bucket}/{key}: {source}")]
    Store {
        /// What was tried.
        act: &'static str,
        /// Where.
        bucket: &'static str,
        /// On which object, or on all.
        key: String,
        /// What the store said.
        #[source]
        source: Box<object_store::Error>,
    },
}

/// An object's content, on its way out.
pub struct Content {
    /// Length in bytes.
    pub bytes: u64,
    /// The pieces.
    pub pieces: BoxStream<'static, object_store::Result<Bytes>>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// The four buckets. Each is opened when first used: a process that serves no objects needs none.
#[derive(Debug)]
pub struct Objects {
    settings: config::Objects,
    /// The PostgreSQL cluster with the rows that name the objects.
    cluster: Option<String>,
    places: [OnceLock<Place>; Bucket::ALL.len()],
    room: Semaphore,
}

impl Objects {
    /// Opens nothing yet.
    pub fn new(settings: &config::Objects) -> Self {
        let room = Semaphore::new(settings.uploads_max);
        Self { settings: settings.clone(), cluster: None, places: Default::default(), room }
    }

    /// The same, for one PostgreSQL cluster: a directory of another's objects is refused.
    pub(crate) fn of_cluster(self, cluster: Option<String>) -> Self {
        Self { cluster, ..self }
    }

    /// Writes a body as an object. It is whole and durable when this returns, and not to be seen before.
    pub async fn put<E>(
        &self,
        bucket: Bucket,
        org: OrgId,
        media: Media,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<(Key, Digest), ObjectsError> {
        let _room = self.room.try_acquire().map_err(|_| ObjectsError::Busy)?;
        let key = Key { org, object: Uuid::now_v7() };
        let Place { store, part_bytes } = self.place(bucket)?;
        let mut writer = BufWriter::with_capacity(Arc::clone(store), key.into(), *part_bytes)
            .with_max_concurrency(PARTS_AT_ONCE);
        let written = match self.read(bucket, media, body, Some((&mut writer, key))).await {
            Ok(digest) => digest,
            Err(error) => {
                // Nothing is to be seen yet; what cannot be cleaned up now, the sweep will.
                let _ = writer.abort().await;
                return Err(error);
            }
        };
        writer.shutdown().await.map_err(|error| {
            failed("write", bucket, key)(object_store::Error::Generic {
                store: bucket.name(),
                source: error.into(),
            })
        })?;
        counter!("backend_object_uploads_total", "bucket" => bucket.name()).increment(1);
        counter!("backend_object_upload_bytes_total", "bucket" => bucket.name())
            .increment(written.bytes);
        Ok((key, written))
    }

    /// Reads a body as [`Objects::put`] does, with the same checks, but keeps nothing.
    pub async fn digest<E>(
        &self,
        bucket: Bucket,
        media: Media,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Digest, ObjectsError> {
        let _room = self.room.try_acquire().map_err(|_| ObjectsError::Busy)?;
        self.read(bucket, media, body, None).await
    }

    async fn read<E>(
        &self,
        bucket: Bucket,
        media: Media,
        body: impl Stream<Item = Result<Bytes, E>>,
        mut into: Option<(&mut BufWriter, Key)>,
    ) -> Result<Digest, ObjectsError> {
        let mut intake = Intake::new(media, bucket.bytes_max(&self.settings.bytes_max));
        let mut body = std::pin::pin!(body);
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|_| ObjectsError::CutOff)?;
            intake.take(&chunk)?;
            if let Some((writer, key)) = &mut into {
                writer.put(chunk).await.map_err(failed("write", bucket, *key))?;
            }
        }
        Ok(intake.finish()?)
    }

    /// An object's content; nothing where there is no such object.
    pub async fn get(&self, bucket: Bucket, key: Key) -> Result<Option<Content>, ObjectsError> {
        match self.place(bucket)?.store.get(&key.into()).await {
            Ok(found) => {
                let bytes = found.meta.size;
                Ok(Some(Content { bytes, pieces: found.into_stream() }))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("read", bucket, key)(error)),
        }
    }

    /// Removes an object, if it is there.
    pub async fn delete(&self, bucket: Bucket, key: Key) -> Result<(), ObjectsError> {
        match self.place(bucket)?.store.delete(&key.into()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("remove", bucket, key)(error)),
        }
    }

    /// All objects of a bucket, in no order.
    pub(super) fn list(
        &self,
        bucket: Bucket,
    ) -> Result<BoxStream<'static, object_store::Result<ObjectMeta>>, ObjectsError> {
        Ok(self.place(bucket)?.store.list(None))
    }

    /// Whether anything may be in a bucket: a look must not be what makes its directory.
    pub(super) fn is_begun(&self, bucket: Bucket) -> bool {
        match self.settings.store {
            ObjectStoreKind::Directory => self.settings.directory.join(bucket.name()).is_dir(),
            ObjectStoreKind::S3 => true,
        }
    }

    pub(super) fn settings(&self) -> &config::Objects {
        &self.settings
    }

    fn place(&self, bucket: Bucket) -> Result<&Place, ObjectsError> {
        let cell = &self.places[bucket.index()];
        if let Some(place) = cell.get() {
            return Ok(place);
        }
        let opened = place::open(&self.settings, bucket, self.cluster.as_deref())
            .map_err(failed("open", bucket, ""))?;
        Ok(cell.get_or_init(|| opened))
    }
}

pub(super) fn failed(
    act: &'static str,
    bucket: Bucket,
    key: impl ToString,
) -> impl FnOnce(object_store::Error) -> ObjectsError {
    move |source| ObjectsError::Store {
        act,
        bucket: bucket.name(),
        key: key.to_string(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::path::{Path as FilePath, PathBuf};

    use futures::stream;
    use tempfile::TempDir;

    use super::*;
    use crate::config::Config;

    fn objects(bytes_max: u64) -> (TempDir, Objects) {
        let directory = TempDir::new().unwrap();
        let mut settings = Config::from_toml("").unwrap().objects;
        settings.directory = directory.path().join("objects");
        settings.bytes_max.receipts = bytes_max;
        settings.uploads_max = 1;
        (directory, Objects::new(&settings))
    }

    fn org() -> OrgId {
        OrgId::new(7).unwrap()
    }

    /// A PDF of some length, in pieces of 64 KiB.
    fn pdf(bytes: usize) -> Bytes {
        b"%PDF-1.7 ".iter().copied().cycle().take(bytes).collect()
    }

    fn pieces(body: &Bytes) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
        let cut: Vec<_> = body.chunks(64 << 10).map(Bytes::copy_from_slice).map(Ok).collect();
        stream::iter(cut)
    }

    async fn content(objects: &Objects, key: Key) -> Option<Vec<u8>> {
        let found = objects.get(Bucket::Receipts, key).await.unwrap()?;
        let pieces: Vec<_> = found.pieces.map(Result::unwrap).collect().await;
        let whole = pieces.concat();
        assert_eq!(whole.len() as u64, found.bytes);
        Some(whole)
    }

    /// All files there are, whatever they are called.
    fn files(below: &FilePath) -> Vec<PathBuf> {
        let within = below.read_dir().into_iter().flatten().map(|entry| entry.unwrap().path());
        within.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
    }

    #[tokio::test]
    async fn what_was_put_is_read_back_until_it_is_removed() {
        let (directory, objects) = objects(2 << 20);
        // One that is written at once, one in many parts.
        for length in [9, 1_500_000] {
            let body = pdf(length);
            let put = objects.put(Bucket::Receipts, org(), Media::Pdf, pieces(&body));
            let (key, digest) = put.await.unwrap();
            assert_eq!(digest.bytes, length as u64);
            assert_eq!(
                objects.digest(Bucket::Receipts, Media::Pdf, pieces(&body)).await.unwrap(),
                digest
            );
            assert_eq!(content(&objects, key).await.unwrap(), body);
            assert!(objects.get(Bucket::Logos, key).await.unwrap().is_none(), "other bucket");
            let other = Key { org: OrgId::new(8).unwrap(), ..key };
            assert_eq!(content(&objects, other).await, None, "other organisation");
            objects.delete(Bucket::Receipts, key).await.unwrap();
            objects.delete(Bucket::Receipts, key).await.unwrap();
            assert_eq!(content(&objects, key).await, None);
        }
        assert_eq!(files(directory.path()), [] as [PathBuf; 0]);
    }

    #[tokio::test]
    async fn a_refused_upload_leaves_nothing() {
        let (directory, objects) = objects(1 << 20);
        let long = pdf((1 << 20) + 1);
        let refused = objects.put(Bucket::Receipts, org(), Media::Pdf, pieces(&long)).await;
        let too_large = Refusal::TooLarge { bytes_max: 1 << 20 };
        assert!(matches!(refused, Err(ObjectsError::Refused(found)) if found == too_large));
        let other = objects.put(Bucket::Receipts, org(), Media::Png, pieces(&pdf(20))).await;
        let not_png = Refusal::OtherType(Media::Png);
        assert!(matches!(other, Err(ObjectsError::Refused(found)) if found == not_png));
        let cut = pieces(&pdf(600_000)).map(|piece| piece.map_err(|never| match never {}));
        let cut = cut.chain(stream::once(async { Err("gone") }));
        let refused = objects.put(Bucket::Receipts, org(), Media::Pdf, cut).await;
        assert!(matches!(refused, Err(ObjectsError::CutOff)));
        assert_eq!(files(directory.path()), [] as [PathBuf; 0]);
    }

    #[tokio::test]
    async fn half_an_upload_is_not_to_be_seen_and_holds_its_place() {
        let (directory, objects) = objects(2 << 20);
        let unending = pieces(&pdf(900_000)).chain(stream::pending());
        let put = objects.put(Bucket::Receipts, org(), Media::Pdf, unending);
        let mut put = Box::pin(put);
        let seen = async {
            loop {
                let found = files(directory.path());
                if found.iter().any(|file| file.metadata().unwrap().len() > 0) {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        };
        let halves = tokio::select! {
            _ = &mut put => panic!("it has no end"),
            halves = seen => halves,
        };
        assert!(halves.iter().all(|half| half.to_string_lossy().contains('#')), "{halves:?}");
        let listed: Vec<_> = objects.list(Bucket::Receipts).unwrap().collect().await;
        assert!(listed.is_empty(), "{listed:?}");

        let second = objects.put(Bucket::Receipts, org(), Media::Pdf, pieces(&pdf(9))).await;
        assert!(matches!(second, Err(ObjectsError::Busy)), "{second:?}");
        drop(put);
        let third = objects.put(Bucket::Receipts, org(), Media::Pdf, pieces(&pdf(9))).await;
        assert!(third.is_ok(), "{third:?}");
    }

    #[test]
    fn only_names_of_ours_are_read() {
        let key = Key { org: org(), object: Uuid::from_u128(9) };
        assert_eq!(key.to_string(), "7/00000000-0000-0000-0000-000000000009");
        assert_eq!(key.to_string().parse(), Ok(key));
        let object = Uuid::from_u128(9);
        for hostile in [
            String::new(),
            "7".into(),
            format!("0/{object}"),
            format!("-7/{object}"),
            format!("+7/{object}"),
            format!("07/{object}"),
            format!("../7/{object}"),
            format!("7/../8/{object}"),
            format!("7/{object}/.."),
            format!("7//{object}"),
            format!("7/{object}#1"),
            format!("7/{}", object.simple()),
            format!("7/{{{object}}}"),
            format!("7/{object}\0"),
            "7/..%2f..%2fetc%2fpasswd".into(),
        ] {
            assert_eq!(hostile.parse::<Key>(), Err(ForeignKey), "{hostile:?}");
        }
    }
}
