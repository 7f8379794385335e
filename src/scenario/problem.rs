//! What is wrong with a scenario: every problem with its place, in the order of the file.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

/// One thing wrong with a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub place: Place,
    /// What was found and what is allowed.
    pub message: String,
}

/// Where a problem is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    Line {
        /// Name of the file, as it was given.
        file: String,
        /// Counted from 1.
        line: usize,
    },
    /// In an option of the command line, `--duration`.
    Flag(&'static str),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Line { file, line } => write!(f, "{file}:{line}: {}", self.message),
            Place::Flag(flag) => write!(f, "{flag} {}", self.message),
        }
    }
}

/// Everything wrong with a scenario; never empty. Prints one problem to a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Nothing when there is nothing wrong.
    pub(super) fn new(problems: Vec<Problem>) -> Option<Self> {
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// In the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A scenario's text while it is read, with the problems found so far.
pub(super) struct Source<'t> {
    file: &'t str,
    text: &'t str,
    /// Byte at which the problem starts, and the message.
    problems: RefCell<Vec<(usize, String)>>,
}

impl<'t> Source<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        Self { file, text, problems: RefCell::default() }
    }

    /// Records a problem at a byte of the text.
    pub(super) fn report(&self, at: usize, message: impl fmt::Display) {
        self.problems.borrow_mut().push((at, message.to_string()));
    }

    /// The line of a byte, counted from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    /// A value as written, shortened to fit a message.
    pub(super) fn shown(&self, span: Range<usize>) -> String {
        const SHOWN_CHARS_MAX: usize = 60;
        let written = self.text.get(span).unwrap_or_default();
        let line = written.lines().next().unwrap_or_default();
        let short: String = line.chars().take(SHOWN_CHARS_MAX).collect();
        if short.len() < written.len() { format!("{short}…") } else { short }
    }

    /// The text of the line of a byte.
    pub(super) fn line_at(&self, at: usize) -> &'t str {
        self.text.lines().nth(self.line(at) - 1).unwrap_or_default().trim()
    }

    /// All problems, in the order of the file.
    pub(super) fn into_problems(self) -> Option<Problems> {
        let mut found = self.problems.take();
        found.sort_by_key(|(at, _)| *at);
        let place = |at| Place::Line { file: self.file.to_owned(), line: self.line(at) };
        Problems::new(
            found.into_iter().map(|(at, message)| Problem { place: place(at), message }).collect(),
        )
    }
}
