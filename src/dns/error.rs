//! [`Error`]: why a name has no addresses. The texts are OpenResty's.

use std::fmt;
use std::io;
use std::sync::Arc;

/// Why a look-up has no result.
///
/// An [`io::Error`] can be made of it. A limit around the look-up that has passed
/// ([`timeout`](crate::time::timeout)) then is what it is in every other call of ours: an error of
/// kind `TimedOut` with [`Elapsed`](crate::time::Elapsed) as its source.
#[derive(Clone, Debug)]
pub struct Error {
    host: String,
    kind: ErrorKind,
}

/// What went wrong.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// This is no name: why.
    BadName(String),
    /// There is no server to ask.
    NoServer,
    /// There is no such name, or it has no record of the type that was asked for.
    NotFound,
    /// The servers refuse, or have troubles of their own: the last one's response code (RFC 1035,
    /// section 4.1.1).
    Refused(u16),
    /// No server has answered in time.
    TimedOut,
    /// The name stands for another one, and that for another, without an end.
    AliasLoop,
    /// The servers cannot be reached, or this machine is short of something: the last system error.
    Io(Arc<io::Error>),
    /// The wait was ended from outside, by a limit around it.
    Interrupted(Arc<io::Error>),
}

impl Error {
    pub(super) fn new(host: &str, kind: ErrorKind) -> Error {
        Error { host: host.to_owned(), kind }
    }

    /// The name that was looked up.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Whether the name servers say that there is nothing to find: asking again is of no use.
    pub fn is_not_found(&self) -> bool {
        matches!(self.kind, ErrorKind::NotFound)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error { host, kind } = self;
        match kind {
            ErrorKind::BadName(why) => {
                write!(f, "failed to parse host name \"{}\": {why}", host.escape_debug())
            }
            ErrorKind::NoServer => write!(f, "no resolver defined to resolve \"{host}\""),
            ErrorKind::NotFound => write!(f, "{host} could not be resolved (3: Host not found)"),
            ErrorKind::Refused(code) => {
                write!(f, "{host} could not be resolved ({code}: {})", name_of(*code))
            }
            ErrorKind::TimedOut => {
                write!(f, "{host} could not be resolved (110: Operation timed out)")
            }
            ErrorKind::AliasLoop => write!(f, "{host} could not be resolved (too many aliases)"),
            ErrorKind::Io(error) => write!(f, "{host} could not be resolved ({error})"),
            ErrorKind::Interrupted(error) => write!(f, "{error}"),
        }
    }
}

/// nginx's words for the response codes.
fn name_of(code: u16) -> &'static str {
    match code {
        1 => "Format error",
        2 => "Server failure",
        3 => "Host not found",
        4 => "Unimplemented",
        5 => "Operation refused",
        _ => "Unknown error",
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            ErrorKind::Io(error) | ErrorKind::Interrupted(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match &error.kind {
            ErrorKind::BadName(_) => io::ErrorKind::InvalidInput,
            ErrorKind::NotFound => io::ErrorKind::NotFound,
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ErrorKind::Io(error) => error.kind(),
            ErrorKind::Interrupted(error) => {
                return match error.get_ref().and_then(|source| source.downcast_ref()) {
                    Some(elapsed @ crate::time::Elapsed { .. }) => (*elapsed).into(),
                    None => io::Error::new(error.kind(), error.to_string()),
                };
            }
            ErrorKind::NoServer | ErrorKind::Refused(_) | ErrorKind::AliasLoop => {
                io::ErrorKind::Other
            }
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_openresty() {
        let text = |kind| Error::new("H", kind).to_string();
        assert_eq!(text(ErrorKind::NotFound), "H could not be resolved (3: Host not found)");
        assert_eq!(text(ErrorKind::TimedOut), "H could not be resolved (110: Operation timed out)");
        assert_eq!(text(ErrorKind::Refused(2)), "H could not be resolved (2: Server failure)");
        assert_eq!(text(ErrorKind::NoServer), "no resolver defined to resolve \"H\"");
        let bad = ErrorKind::BadName("no host".into());
        assert_eq!(Error::new("", bad).to_string(), "failed to parse host name \"\": no host");
    }

    #[test]
    fn an_io_error_made_of_it_keeps_kind_and_text() {
        let error = io::Error::from(Error::new("H", ErrorKind::NotFound));
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(error.to_string(), "H could not be resolved (3: Host not found)");
        assert!(error.get_ref().unwrap().is::<Error>());
    }
}
