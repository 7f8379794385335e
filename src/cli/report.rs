//! `plimsoll report`: judges and renders an old run again, offline.

use super::args::ReportArgs;
use super::exit::Exit;
use super::find;
use super::output::{complain, summarise};
use crate::archive::ArchiveError;
use crate::run::{RenderError, render_again};

/// Runs the command; the exit code is the verdict, as it was for the run.
pub(super) fn execute(args: &ReportArgs) -> Exit {
    let directory = match find::run(&args.run) {
        Ok(directory) => directory,
        Err(error) => return complain(&error, Exit::Usage),
    };
    match render_again(&directory) {
        Ok(finished) => summarise(&finished),
        // What was named is a run; that its report cannot be written is no fault of the command line.
        Err(error @ RenderError::Archive(ArchiveError::Write { .. })) => {
            complain(&error, Exit::Internal)
        }
        Err(error) => complain(&error, Exit::Usage),
    }
}
