//! `plimsoll report`: judges and renders an old run again, offline.

use super::args::ReportArgs;
use super::exit::Exit;
use super::find;
use super::output::{complain, summarise};
use crate::run::render_again;

/// Runs the command; the exit code is the verdict, as it was for the run.
pub(super) fn execute(args: &ReportArgs) -> Exit {
    let directory = match find::run(&args.run) {
        Ok(directory) => directory,
        Err(error) => return complain(&error, Exit::Usage),
    };
    match render_again(&directory) {
        Ok(finished) => summarise(&finished),
        Err(error) => complain(&error, Exit::Usage),
    }
}
