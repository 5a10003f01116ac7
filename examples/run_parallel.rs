//! Runs the lines of its standard input as shell commands, a few at a time, and says how each went.
//!
//! ```text
//! printf 'sleep 1\ndate\nfalse\n' | cargo run --release --example run_parallel -- 2
//! ```
//!
//! The number is how many run at once (4 by default). Reading the lines and the children's outputs,
//! and waiting for the children, are waits of coroutines: nothing blocks but their start.

use std::env;
use std::process::Output;

use cosocket::io::{self, Read, Write};
use cosocket::process::Command;
use cosocket::thread;

fn main() -> io::Result<()> {
    let at_once = env::args().nth(1).map_or(Ok(4), |number| number.parse());
    let at_once: usize = at_once.map_err(io::Error::other)?;
    // A pipe with a byte for each place that is free: the job server of `make`.
    let (places, give_back) = io::pipe()?;
    (&give_back).write_all(&vec![b'+'; at_once])?;
    cosocket::run(|| {
        thread::scope(|scope| {
            for line in io::stdin().lines() {
                let (line, mut give_back) = (line?, &give_back);
                (&places).read_exact(&mut [0])?;
                scope.spawn(move || {
                    let result = Command::new("sh").args(["-c", &line]).output();
                    report(&line, result);
                    give_back.write_all(b"+").expect("the pipe has room for all");
                });
            }
            Ok(())
        })
    })
}

fn report(line: &str, result: io::Result<Output>) {
    let text = match result {
        Ok(Output { status, stdout, stderr }) => {
            let (stdout, stderr) =
                (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
            format!("{line}: {status}\n{stdout}{stderr}")
        }
        Err(error) => format!("{line}: {error}\n"),
    };
    // If nobody reads it, nobody misses it.
    let _ = io::stdout().write_all(text.as_bytes());
}
