//! What every server does with what it reads: echo it, or answer its HTTP requests.

/// The constant answer to `GET /`.
pub const HELLO: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, world!\n";

/// So many answers can be given to one read.
const MOST_ANSWERS: usize = 256;

static ANSWERS: [u8; HELLO.len() * MOST_ANSWERS] = {
    let mut answers = [0; HELLO.len() * MOST_ANSWERS];
    let mut at = 0;
    while at < answers.len() {
        answers[at] = HELLO[at % HELLO.len()];
        at += 1;
    }
    answers
};

/// Of one connection.
pub trait Handler: Default + Send + 'static {
    /// What to send for what has come.
    fn answer<'a>(&mut self, input: &'a [u8]) -> &'a [u8];
}

#[derive(Default)]
pub struct Echo;

impl Handler for Echo {
    fn answer<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        input
    }
}

/// Answers as many times as a head ends. It looks at nothing else in the request.
#[derive(Default)]
pub struct Hello {
    /// How much of a blank line has been seen: carriage returns and line feeds in turn.
    seen: u8,
}

impl Handler for Hello {
    fn answer<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        let mut heads = 0;
        for &byte in input {
            self.seen = match (byte, self.seen) {
                (b'\r', 0 | 2) => self.seen + 1,
                (b'\n', 1 | 3) => self.seen + 1,
                (b'\r', _) => 1,
                _ => 0,
            };
            if self.seen == 4 {
                self.seen = 0;
                heads += 1;
            }
        }
        &ANSWERS[..heads * HELLO.len()]
    }
}

/// Calls a function that is generic over handler and buffer size with what the settings say.
macro_rules! dispatch {
    ($settings:expr, $function:ident ( $($argument:expr),* )) => {{
        use $crate::servers::{Service, handler::{Echo, Hello}};
        match ($settings.service, $settings.buffer_bytes) {
            (Service::Echo, 0..=64) => $function::<Echo, 64>($($argument),*),
            (Service::Echo, 65..=4096) => $function::<Echo, 4096>($($argument),*),
            (Service::Echo, _) => $function::<Echo, 65536>($($argument),*),
            // 64 bytes at idle, as for echo: a request has fewer.
            (_, 0..=64) => $function::<Hello, 64>($($argument),*),
            (_, _) => $function::<Hello, 4096>($($argument),*),
        }
    }};
}
pub(super) use dispatch;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_may_end_in_any_read() {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2);
        for split in 0..=request.len() {
            let mut hello = Hello::default();
            let (first, second) = request.split_at(split);
            let answers = hello.answer(first).len() + hello.answer(second).len();
            assert_eq!(answers, 2 * HELLO.len(), "split at {split}");
        }
    }

    #[test]
    fn only_a_blank_line_ends_a_head() {
        let mut hello = Hello::default();
        assert_eq!(hello.answer(b"\r\r\n\r\r\n\n\n\rx\r\n"), b"");
        assert_eq!(hello.answer(b"\r\n"), HELLO);
    }
}
