//! Scheduled jobs: each instant of each schedule runs once, however many processes there are, and never two runs of one job
//! at a time.
//!
//! **One row is one run.** Who inserts the row (job, instant) into `job_runs` has the run; the primary key refuses the second
//! insert of an instant, a partial unique index refuses a second run that is not finished. No leader, no lease: any process may
//! run any job.
//!
//! **A process that dies** leaves a row whose heartbeat grows old. Whoever comes next takes the run over, once, or
//! gives it up, as the job's settings say. A process that cannot write its heartbeat for that long breaks its own run off,
//! so that the work is not done twice at a time; work is made to bear being done twice in a row.
//!
//! **Instants that passed** while nobody ran them are made up for as the job's settings say. All times are those of the
//! database, so that clocks of processes do not matter.
//!
//! For a new job: a variant of [`Job`], its settings, a file with its work, a line in `work`.

mod balance_check;
mod balance_repair;
mod cache_warming;
mod check;
mod cli;
mod execute;
mod job;
mod night_audit;
mod read_model_check;
mod runs;
mod schedule;
mod scheduler;
mod snapshotting;
mod task_reminders;
mod work;

pub(crate) use balance_repair::BalanceRepair;
pub(crate) use cache_warming::WarmList;
pub use cli::JobsCommand;
pub use job::{Job, UnknownJob};
pub use schedule::{CatchUp, IfDied, Schedule, ScheduleError};
pub(crate) use scheduler::run_schedules;
