//! rustls's errors in our words: which check failed, for which name, and what to look at.

use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};

use super::super::error::{Error, ErrorKind};

/// `start` is what the peer's bytes began with.
pub(super) fn explain(
    error: &rustls::Error,
    start: &[u8],
    is_handshaking: bool,
    self_signed: bool,
) -> Error {
    let (kind, text) = match error {
        rustls::Error::InvalidMessage(_) if is_handshaking && is_not_tls(start) => {
            return not_tls(start);
        }
        rustls::Error::InvalidMessage(InvalidMessage::MessageTooLarge)
        | rustls::Error::PeerSentOversizedRecord => {
            (ErrorKind::Corrupt, "the peer sent a record longer than TLS allows".to_owned())
        }
        rustls::Error::InvalidMessage(what) => {
            (ErrorKind::Corrupt, format!("the peer sent what is no TLS message ({what:?})"))
        }
        rustls::Error::DecryptError => {
            let text = "a record cannot be decrypted: it was changed on its way, or the peer has \
                        other keys";
            (ErrorKind::Corrupt, text.to_owned())
        }
        rustls::Error::InvalidCertificate(error) => return certificate(error, self_signed),
        rustls::Error::NoCertificatesPresented => {
            (ErrorKind::NoCertificate, "the peer shows no certificate, and must".to_owned())
        }
        rustls::Error::AlertReceived(alert) => return refused(*alert),
        rustls::Error::NoApplicationProtocol => {
            (ErrorKind::NoProtocol, "no application protocol (ALPN) in common".to_owned())
        }
        rustls::Error::PeerIncompatible(what) => return incompatible(what),
        rustls::Error::PeerMisbehaved(what) => {
            (ErrorKind::Misbehaved, format!("the peer breaks the protocol ({what:?})"))
        }
        rustls::Error::InappropriateMessage { .. }
        | rustls::Error::InappropriateHandshakeMessage { .. } => {
            (ErrorKind::Misbehaved, format!("the peer breaks the protocol ({error})"))
        }
        rustls::Error::EncryptError => {
            let text = "the keys have encrypted as much as is safe; TLS 1.3 would change them, and \
                        TLS 1.2 needs a new connection";
            (ErrorKind::Exhausted, text.to_owned())
        }
        rustls::Error::General(text) if text.contains("resolved") => {
            (ErrorKind::NoCertificate, "there is no certificate for the name asked for".to_owned())
        }
        other => (ErrorKind::Other, other.to_string()),
    };
    Error::new(kind, text)
}

/// Content types are 20 to 24 (RFC 8446, 5.1), and the version that follows begins with 3.
fn is_not_tls(start: &[u8]) -> bool {
    match start {
        [kind, version, ..] => !(20..=24).contains(kind) || *version != 3,
        _ => false,
    }
}

fn not_tls(start: &[u8]) -> Error {
    let end = start.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let start = String::from_utf8_lossy(&start[..end]);
    let text = format!("the peer does not speak TLS, it sent {start:?}");
    Error::new(ErrorKind::NotTls, text)
}

fn certificate(error: &CertificateError, self_signed: bool) -> Error {
    let (kind, text) = match error {
        CertificateError::NotValidForNameContext { expected, presented } => {
            let text = if presented.is_empty() {
                format!(
                    "the certificate is for no name at all, and not for {:?}",
                    expected.to_str()
                )
            } else {
                let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
                let names = names.join(", ");
                format!("the certificate is for {names}, and not for {:?}", expected.to_str())
            };
            (ErrorKind::NameMismatch, text)
        }
        CertificateError::NotValidForName => {
            (ErrorKind::NameMismatch, "the certificate is for other names".to_owned())
        }
        CertificateError::UnknownIssuer if self_signed => {
            let text = "the certificate is self-signed, and not among those trusted; pin it if it \
                        is the right one";
            (ErrorKind::SelfSigned, text.to_owned())
        }
        CertificateError::UnknownIssuer => {
            let text = "nobody who is trusted has issued the certificate; or the server does not \
                        send the certificates in between";
            (ErrorKind::UnknownIssuer, text.to_owned())
        }
        CertificateError::ExpiredContext { not_after, .. } => {
            let text = format!("the certificate has expired, on {}", date(not_after.as_secs()));
            (ErrorKind::Expired, text)
        }
        CertificateError::Expired => (ErrorKind::Expired, "the certificate has expired".to_owned()),
        CertificateError::NotValidYetContext { not_before, .. } => {
            let text = format!(
                "the certificate is not valid before {}; is the clock right?",
                date(not_before.as_secs())
            );
            (ErrorKind::NotYetValid, text)
        }
        CertificateError::NotValidYet => {
            (ErrorKind::NotYetValid, "the certificate is not valid yet".to_owned())
        }
        CertificateError::Revoked => (ErrorKind::Revoked, "the certificate was revoked".to_owned()),
        CertificateError::BadSignature => {
            let text = "the certificate names a trusted issuer, whose signature it does not have";
            (ErrorKind::BadCertificate, text.to_owned())
        }
        CertificateError::ApplicationVerificationFailure => {
            (ErrorKind::NotPinned, "the certificate is not the pinned one".to_owned())
        }
        // A CA's certificate used as a server's: what self-signed ones often are.
        CertificateError::Other(_) if self_signed => {
            let text =
                format!("the certificate is self-signed, and not trusted as it is ({error})");
            (ErrorKind::SelfSigned, text)
        }
        other => (ErrorKind::BadCertificate, format!("the certificate is not valid: {other}")),
    };
    Error::new(kind, text)
}

/// Of `DnsName("a.example")` the name alone.
fn bare(name: &str) -> &str {
    name.strip_prefix("DnsName(\"").and_then(|name| name.strip_suffix("\")")).unwrap_or(name)
}

fn refused(alert: AlertDescription) -> Error {
    let (kind, text) = match alert {
        AlertDescription::NoApplicationProtocol => {
            (ErrorKind::NoProtocol, "the peer speaks none of our application protocols (ALPN)")
        }
        AlertDescription::ProtocolVersion => {
            (ErrorKind::Version, "the peer speaks none of our versions of TLS")
        }
        AlertDescription::HandshakeFailure => {
            (ErrorKind::Refused, "the peer finds no cipher suite, key or certificate in common")
        }
        AlertDescription::CertificateRequired => {
            (ErrorKind::Refused, "the peer wants a certificate of ours, and got none")
        }
        AlertDescription::UnknownCA => {
            (ErrorKind::Refused, "the peer does not trust who issued our certificate")
        }
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            (ErrorKind::Refused, "the peer does not take our certificate")
        }
        AlertDescription::CertificateExpired => {
            (ErrorKind::Refused, "the peer finds our certificate expired")
        }
        AlertDescription::CertificateRevoked => {
            (ErrorKind::Refused, "the peer finds our certificate revoked")
        }
        AlertDescription::UnrecognisedName => {
            (ErrorKind::Refused, "the server does not know the name that was asked for")
        }
        AlertDescription::BadRecordMac | AlertDescription::DecryptError => {
            (ErrorKind::Corrupt, "the peer could not decrypt what it got from us")
        }
        AlertDescription::RecordOverflow => {
            (ErrorKind::Corrupt, "the peer got a record longer than TLS allows")
        }
        other => {
            return Error::new(ErrorKind::Refused, format!("the peer sent the alert {other:?}"));
        }
    };
    let name = format!("{alert:?}");
    Error::new(kind, format!("{text} (alert {name})"))
}

fn incompatible(what: &PeerIncompatible) -> Error {
    let (kind, text) = match what {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::Tls13RequiredForQuic => {
            (ErrorKind::Version, "no version of TLS in common")
        }
        PeerIncompatible::NoCipherSuitesInCommon => {
            (ErrorKind::Incompatible, "no cipher suite in common")
        }
        PeerIncompatible::NoKxGroupsInCommon => {
            (ErrorKind::Incompatible, "no way to exchange keys in common")
        }
        PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon
        | PeerIncompatible::NoSignatureSchemesInCommon => {
            (ErrorKind::Incompatible, "no kind of signature in common")
        }
        other => {
            let text = format!("nothing in common with the peer ({other:?})");
            return Error::new(ErrorKind::Incompatible, text);
        }
    };
    Error::new(kind, format!("{text} ({what:?})"))
}

/// The day, in UTC.
fn date(seconds: u64) -> String {
    // Days since 0000-03-01: years begin in March, so that the leap day is a year's last.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_399), "2000-02-28");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(951_868_800), "2000-03-01");
        assert_eq!(date(4_107_542_400), "2100-03-01");
    }

    #[test]
    fn plain_text_is_told_from_tls() {
        assert!(is_not_tls(b"GET / HTTP/1.1"));
        assert!(is_not_tls(b"220 smtp"));
        assert!(!is_not_tls(&[22, 3, 1, 0, 5]));
        assert!(!is_not_tls(&[22]));
    }
}
