//! What a run tells whoever watches it. The session knows nothing of terminals.

/// A watcher of a run; called from the session only, so it may be slow but must not block for long.
pub trait Progress: Send + Sync {
    /// A stage begins.
    fn stage(&self, name: &str);
    /// Rows of the population copied so far, of how many in all.
    fn rows(&self, done: u64, total: u64);
    /// A second of load is over.
    fn second(&self, second: LoadProgress);
    /// Something worth a line.
    fn note(&self, text: &str);
}

/// One second of load, as it happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadProgress {
    /// Seconds of the axis that are over.
    pub elapsed_s: usize,
    /// Length of the axis in seconds.
    pub total_s: usize,
    /// Requests that ended in this second, whatever their answer.
    pub answered: u64,
    /// Arrivals of which it became clear in this second that they failed or could not be sent.
    pub failed: u64,
}
