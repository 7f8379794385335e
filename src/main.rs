use std::process::ExitCode;

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match std::env::args().nth(1).as_deref() {
        Some("worker") => plimsoll::cli::worker::run(),
        _ => ExitCode::from(2),
    }
}
