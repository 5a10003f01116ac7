//! The example of one source for std and for us: both builds do the same, as seen from outside.

use std::path::Path;
use std::process::Command;

#[allow(dead_code)]
#[path = "../examples/port_from_std.rs"]
mod example;

/// What the program prints when the compiler alone has built it, on std.
fn on_std() -> String {
    let file = format!("cosocket-port-from-std-{}", std::process::id());
    let program = std::env::temp_dir().join(file);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/port_from_std.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let mut command = Command::new(rustc);
    command.args(["--edition", "2024", "--cfg", "on_std", "-o"]).arg(&program).arg(source);
    assert!(command.status().expect("rustc does not start").success());
    let output = Command::new(&program).output();
    std::fs::remove_file(&program).unwrap();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn one_program_does_the_same_on_std_and_on_cosocket() {
    let expected = on_std();
    let lines: Vec<_> = expected.lines().collect();
    assert_eq!(lines.len(), 103);
    assert_eq!(lines[..3], ["0", "1", "4"]);
    assert_eq!(example::program().unwrap(), lines, "from a plain thread");
    assert_eq!(cosocket::run(example::program).unwrap(), lines, "in a coroutine");
}
