//! Tests that end their process: each runs itself again in a child and looks at what is left.

use std::io::Write;
use std::process::{Command, Output};

const VARIABLE: &str = "COSOCKET_TEST_CHILD";

/// In the test named `test` (its full path): runs `body` in a child process and returns how that
/// went. In the child, which is the same test of the same program: runs `body` and exits with 0.
pub(crate) fn run(test: &str, body: fn()) -> Output {
    if std::env::var(VARIABLE).is_ok_and(|name| name == test) {
        body();
        let _ = std::io::stdout().flush();
        std::process::exit(0);
    }
    let program = std::env::current_exe().expect("the test program's path");
    let output = Command::new(program)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, test)
        .output()
        .expect("the test program can be started again");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        stdout.contains("running 1 test"),
        "no test is named {test}: {stdout}"
    );
    output
}

/// What the child wrote to its standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
