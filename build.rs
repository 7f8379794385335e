//! Tells the program which commit it was built from, when it was built in a checkout.

use std::process::Command;

fn main() {
    let head = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    if let Ok(output) = head
        && output.status.success()
    {
        let commit = String::from_utf8_lossy(&output.stdout);
        println!("cargo::rustc-env=PLIMSOLL_COMMIT={}", commit.trim());
        println!("cargo::rerun-if-changed=.git/logs/HEAD");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
