//! The exit codes: a contract with every pipeline that runs us.

use std::process::ExitCode;

use crate::gates::Verdict;

/// How the program ended. The numbers never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All gates hold and the run may be judged.
    Pass = 0,
    /// A fault of ours.
    Internal = 1,
    /// The command line or the scenario is wrong; nothing was started.
    Usage = 2,
    /// A gate failed, or the audit found a loss.
    GateFailed = 10,
    /// The run cannot tell.
    Inconclusive = 12,
    /// The stack could not be started, or died.
    StackFailed = 20,
    /// Ended by Ctrl-C, SIGTERM, or the end of the terminal.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

impl From<Verdict> for Exit {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Exit::Pass,
            Verdict::Fail => Exit::GateFailed,
            Verdict::Inconclusive => Exit::Inconclusive,
        }
    }
}
