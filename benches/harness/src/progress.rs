//! What is being done, on standard error: one line that changes on a terminal, else a line a step.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

pub struct Progress {
    steps: usize,
    done: usize,
    start: Instant,
    step: String,
    is_terminal: bool,
}

impl Progress {
    pub fn new(steps: usize) -> Progress {
        let is_terminal = io::stderr().is_terminal();
        Progress { steps, done: 0, start: Instant::now(), step: String::new(), is_terminal }
    }

    pub fn begin(&mut self, what: &str, who: &str) {
        self.step = format!("{what:<18} {who:<20}");
        if self.is_terminal {
            self.print("");
        }
    }

    pub fn end(&mut self, outcome: &str) {
        self.done += 1;
        self.print(outcome);
    }

    /// Steps that are not taken.
    pub fn skip(&mut self, steps: usize) {
        self.steps -= steps;
    }

    fn print(&self, outcome: &str) {
        let elapsed = self.start.elapsed().as_secs_f64();
        let left = match self.done {
            0 => "?".to_owned(),
            done => format!("{:.0}", elapsed / done as f64 * (self.steps - done) as f64),
        };
        let (done, steps, step) = (self.done, self.steps, &self.step);
        let line = format!("[{done:>4}/{steps}, {left:>4} s left] {step} {outcome}");
        if self.is_terminal {
            eprint!("\r\x1b[K{line}");
            let _ = io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }

    pub fn finish(self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }
}
