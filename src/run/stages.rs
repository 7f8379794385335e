//! Times the stages of a run.

use std::sync::Arc;
use std::time::Instant;

use super::progress::Progress;
use crate::archive::Stage;

/// The stages so far, in order.
pub(super) struct Stages {
    progress: Arc<dyn Progress>,
    done: Vec<Stage>,
    current: Option<(&'static str, Instant)>,
}

impl Stages {
    pub(super) fn new(progress: Arc<dyn Progress>) -> Self {
        Self { progress, done: Vec::new(), current: None }
    }

    /// Ends the current stage and begins the next.
    pub(super) fn begin(&mut self, name: &'static str) {
        self.end();
        self.progress.stage(name);
        self.current = Some((name, Instant::now()));
    }

    fn end(&mut self) {
        if let Some((name, begun)) = self.current.take() {
            let seconds = begun.elapsed().as_secs_f64();
            self.done.push(Stage { name: name.to_owned(), seconds });
        }
    }

    /// Ends the last stage and gives all of them.
    pub(super) fn finish(mut self) -> Vec<Stage> {
        self.end();
        self.done
    }
}
