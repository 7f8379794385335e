//! Pictures and papers, in four buckets of an object store: files below a directory, or a service that speaks S3.
//!
//! ```text
//! upload   body → size, type, digest → object (durable) → row that names it → answer
//! removal  row → answer, object
//! ```
//!
//! An object exists for clients if a row of a database names it. Each upload writes an object of its own, under a name made
//! here, and none is ever changed; so whatever is cut off between two steps leaves an object that no row names, which the
//! sweep removes, and never a row without its object.

mod bucket;
mod intake;
mod media;
mod owner;
mod place;
mod store;
mod sweep;

pub use bucket::Bucket;
pub use intake::{Digest, Refusal};
pub use media::Media;
pub(crate) use owner::cluster;
pub use store::{Content, Key, Objects, ObjectsError};
pub use sweep::{SweepError, Swept, sweep, sweeping};
