//! What commands that start servers have in common: progress on the console, an orderly end at a signal, an exit code.

use std::sync::Arc;

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::exit::Exit;
use super::output::complain;
use super::progress::ConsoleProgress;
use crate::run::{Progress, RunError};

/// Does a piece of work; Ctrl-C, SIGTERM and the end of the terminal end it in good order. Says what went wrong.
pub(super) fn watched<T>(
    work: impl AsyncFnOnce(Arc<dyn Progress>, CancellationToken) -> Result<T, RunError>,
) -> Result<T, Exit> {
    let runtime = tokio::runtime::Runtime::new();
    let runtime = runtime.map_err(|error| complain(&error, Exit::Internal))?;
    let done = runtime.block_on(async {
        let progress = Arc::new(ConsoleProgress::new());
        let cancel = CancellationToken::new();
        let signals = tokio::spawn(cancel_on_signal(cancel.clone()));
        let result = work(progress.clone(), cancel).await;
        signals.abort();
        progress.finish();
        result
    });
    done.map_err(|error| complain(&error, exit_of(&error)))
}

pub(super) fn exit_of(error: &RunError) -> Exit {
    match error {
        RunError::Results(_) | RunError::Token(_) => Exit::Usage,
        RunError::Interrupted => Exit::Interrupted,
        RunError::Load(_) | RunError::Save(_) => Exit::Internal,
        _ => Exit::StackFailed,
    }
}

/// The first signal asks for an orderly end. Later ones change nothing: the end is bounded in time, and cutting it
/// short would leave servers behind.
async fn cancel_on_signal(cancel: CancellationToken) {
    let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
    // `nohup` has it ignored, and a run that was started so is to outlive its terminal.
    if !ignores_hangup() {
        kinds.push(SignalKind::hangup());
    }
    let (asked, mut heard) = mpsc::channel(1);
    for mut signals in kinds.into_iter().filter_map(|kind| signal(kind).ok()) {
        let asked = asked.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() && asked.send(()).await.is_ok() {}
        });
    }
    while heard.recv().await.is_some() {
        cancel.cancel();
    }
}

fn ignores_hangup() -> bool {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.is_ok_and(|status| status.sigign & (1 << (Signal::SIGHUP as i32 - 1)) != 0)
}
