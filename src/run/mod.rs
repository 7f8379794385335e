//! A run: the plan, and the session, which alone sequences the stages.
//!
//! Every other module of the program does one thing and knows none of its neighbours; here they are joined. The session
//! owns all that it starts and ends it on every way out.

mod check;
mod climb;
mod conclude;
mod describe;
mod environment;
mod error;
mod ground;
mod measure;
mod plan;
mod populate;
mod progress;
mod session;
mod stages;

pub use check::{Check, check};
pub use conclude::{Finished, RenderError, render_again};
pub use describe::describe;
pub use environment::environment;
pub use error::RunError;
pub use plan::{Plan, run_id};
pub use populate::WORTH_KEEPING;
pub use progress::{LoadProgress, Progress};
pub use session::{Prepared, prepare, run};
