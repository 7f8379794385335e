//! Results on stdout, errors on stderr.

use std::env;
use std::io::IsTerminal;

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

/// Prints a result.
#[expect(clippy::print_stdout, reason = "results go to stdout")]
pub(super) fn print(text: &str) {
    println!("{}", text.trim_end());
}

/// Prints an error; gives back the exit code that goes with it.
#[expect(clippy::print_stderr, reason = "errors go to stderr")]
pub(super) fn complain(error: &dyn std::error::Error, exit: Exit) -> Exit {
    eprintln!("error: {error}");
    exit
}
