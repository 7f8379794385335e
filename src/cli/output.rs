//! Results on stdout, errors on stderr.

use std::env;
use std::io::{IsTerminal, Write};

use super::exit::Exit;
use crate::report::{Colour, render_console};
use crate::run::Finished;

/// Prints the summary of a judged run; its verdict is the exit code.
pub(super) fn summarise(finished: &Finished) -> Exit {
    let wanted = std::io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none();
    let colour = if wanted { Colour::Ansi } else { Colour::Plain };
    let page = finished.directory.join("report.html");
    print(&render_console(&finished.report, &page.display().to_string(), colour));
    finished.report.verdict.into()
}

/// Prints a result. A reader that has gone away changes nothing: the run was made, and its exit code stands.
pub(super) fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

/// Prints a line for people.
pub(super) fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints an error; gives back the exit code that goes with it.
pub(super) fn complain(error: &dyn std::error::Error, exit: Exit) -> Exit {
    tell(&format!("error: {error}"));
    exit
}
