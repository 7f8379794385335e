//! Progress on stderr: bars on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};

use super::output::tell;
use crate::run::{LoadProgress, Progress};

/// How often a line is written when stderr is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Shows a run's progress on stderr.
#[derive(Debug)]
pub(super) struct ConsoleProgress {
    state: Mutex<State>,
    terminal: bool,
}

#[derive(Debug)]
struct State {
    bar: ProgressBar,
    stage: Option<(String, Instant)>,
    last_line: Instant,
}

impl ConsoleProgress {
    /// Bars when stderr is a terminal, otherwise a line at each stage and every ten seconds.
    pub(super) fn new() -> Self {
        let state = State { bar: ProgressBar::hidden(), stage: None, last_line: Instant::now() };
        Self { state: Mutex::new(state), terminal: std::io::stderr().is_terminal() }
    }

    /// Ends the last stage.
    pub(super) fn finish(&self) {
        self.with(|state| close_stage(state, self.terminal));
    }

    fn with(&self, act: impl FnOnce(&mut State)) {
        act(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Progress for ConsoleProgress {
    fn stage(&self, name: &str) {
        self.with(|state| {
            close_stage(state, self.terminal);
            state.stage = Some((name.to_owned(), Instant::now()));
            if self.terminal {
                state.bar = spinner(name);
            }
        });
    }

    fn rows(&self, done: u64, total: u64) {
        self.with(|state| {
            if self.terminal {
                show_bar(state, total, done, ROWS);
            } else if due(state) {
                tell(&rows_line(done, total, elapsed(state)));
            }
        });
    }

    fn second(&self, second: LoadProgress) {
        self.with(|state| {
            let rate = format!("{} req/s, {} failed", HumanCount(second.answered), second.failed);
            if self.terminal {
                show_bar(state, second.total_s as u64, second.elapsed_s as u64, SECONDS);
                state.bar.set_message(rate);
            } else if due(state) {
                tell(&format!("  {:>4} s of {} s: {rate}", second.elapsed_s, second.total_s));
            }
        });
    }

    fn note(&self, text: &str) {
        self.with(|state| state.bar.suspend(|| tell(text)));
    }
}

const ROWS: &str = "  {prefix:<10} {bar:28} {human_pos} of {human_len} rows, {per_sec}, {eta} left";
const SECONDS: &str = "  {prefix:<10} {bar:28} {pos} s of {len} s, {msg}";

fn close_stage(state: &mut State, terminal: bool) {
    state.bar.finish_and_clear();
    if let Some((name, begun)) = state.stage.take() {
        let mark = if terminal { "✓ " } else { "" };
        tell(&format!("  {mark}{name:<10} {:>7.1} s", begun.elapsed().as_secs_f64()));
    }
}

fn spinner(name: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("  {spinner} {prefix:<10} {elapsed}");
    bar.set_style(style.expect("the template is a constant"));
    bar.set_prefix(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Turns the stage's spinner into a bar at the first figure, then moves it.
fn show_bar(state: &mut State, length: u64, position: u64, template: &'static str) {
    if state.bar.length().is_none() {
        let style = ProgressStyle::with_template(template).expect("the template is a constant");
        state.bar.set_style(style);
    }
    state.bar.set_length(length);
    state.bar.set_position(position);
}

fn due(state: &mut State) -> bool {
    let due = state.last_line.elapsed() >= PLAIN_EVERY;
    if due {
        state.last_line = Instant::now();
    }
    due
}

fn elapsed(state: &State) -> Duration {
    state.stage.as_ref().map_or(Duration::ZERO, |(_, begun)| begun.elapsed())
}

fn rows_line(done: u64, total: u64, elapsed: Duration) -> String {
    let per_second = done as f64 / elapsed.as_secs_f64().max(0.001);
    let left = Duration::from_secs_f64(total.saturating_sub(done) as f64 / per_second.max(1.0));
    format!(
        "  {} of {} rows, {}/s, {} left",
        HumanCount(done),
        HumanCount(total),
        HumanCount(per_second as u64),
        HumanDuration(left)
    )
}
