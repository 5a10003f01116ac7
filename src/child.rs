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
    let output = this_program()
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, test)
        .output()
        .expect("the test program can be started again");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("running 1 test"), "no test is named {test}: {stdout}");
    output
}

/// A command that starts this program; by the runner that cargo was told to use for it, if it is
/// a foreign processor's.
fn this_program() -> Command {
    let program = std::env::current_exe().expect("the test program's path");
    let processor = format!("CARGO_TARGET_{}", std::env::consts::ARCH.to_uppercase());
    let runner = std::env::vars()
        .find(|(name, _)| name.starts_with(&processor) && name.ends_with("_RUNNER"))
        .map(|(_, runner)| runner)
        .unwrap_or_default();
    let mut words = runner.split_whitespace();
    let Some(first) = words.next() else {
        return Command::new(program);
    };
    let mut command = Command::new(first);
    command.args(words).arg(program);
    command
}

/// What the child wrote to its standard error, without what an emulator adds.
pub(crate) fn stderr(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let by_child = |line: &&str| !line.starts_with("qemu: uncaught target signal");
    text.split_inclusive('\n').filter(by_child).collect()
}
