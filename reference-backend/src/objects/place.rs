//! Opens the store of a bucket: a directory, or a bucket of a service that speaks S3.

use std::path::Path;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;

use super::Bucket;
use super::owner::claim;
use crate::config::{self, ObjectStoreKind};

/// Bytes written at a time to a file.
const FILE_PART_BYTES: usize = 256 << 10;
/// S3 takes no smaller parts, but for the last.
const S3_PART_BYTES: usize = 5 << 20;

/// The store of one bucket.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) store: Arc<dyn ObjectStore>,
    /// Bytes that one write carries; a shorter object is written at once.
    pub(super) part_bytes: usize,
}

/// Opens a bucket; a directory is made if it is not there, and belongs to `cluster` from then on.
pub(super) fn open(
    settings: &config::Objects,
    bucket: Bucket,
    cluster: Option<&str>,
) -> object_store::Result<Place> {
    match settings.store {
        ObjectStoreKind::Directory => {
            let directory = settings.directory.join(bucket.name());
            let failed = |source: String| object_store::Error::Generic {
                store: "directory",
                source: source.into(),
            };
            make(&directory)
                .map_err(|source| failed(format!("make {}: {source}", directory.display())))?;
            cluster
                .map_or(Ok(()), |cluster| claim(&settings.directory, cluster))
                .map_err(|source| failed(source.to_string()))?;
            // Without this, an answered upload could be lost with the machine's power.
            let store = LocalFileSystem::new_with_prefix(&directory)?.with_fsync(true);
            Ok(Place { store: Arc::new(store), part_bytes: FILE_PART_BYTES })
        }
        ObjectStoreKind::S3 => {
            let config::S3 { endpoint, region, bucket_prefix, allow_http } = &settings.s3;
            let mut builder = AmazonS3Builder::from_env()
                .with_region(region)
                .with_bucket_name(format!("{bucket_prefix}{}", bucket.name()))
                .with_allow_http(*allow_http);
            if !endpoint.is_empty() {
                builder = builder.with_endpoint(endpoint);
            }
            Ok(Place { store: Arc::new(builder.build()?), part_bytes: S3_PART_BYTES })
        }
    }
}

/// Guests' papers are nobody's on this machine but ours.
fn make(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}
