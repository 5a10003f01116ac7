//! What can be sent by one call: bytes, text, numbers, and lists of such, as deep as you like.

use std::borrow::Cow;
use std::fmt;
use std::io::{IoSlice, Write};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// Something that can be sent: see [`Cosocket::send`](super::Cosocket::send).
///
/// * bytes and text: `[u8]`, `str`, `Vec<u8>`, `String`, `Box`, `Arc`, `Cow` of them;
/// * [`Text`]: anything that prints, numbers above all; [`Number`] prints as Lua does;
/// * slices, arrays and `Vec`s of fragments, tuples of up to eight, `Option`s of one.
///
/// Nothing is copied but texts made, and what is short. Implement it for your own types by handing
/// on their parts:
///
/// ```
/// use cosocket::{Fragments, Pieces};
///
/// struct Header {
///     name: String,
///     value: u64,
/// }
///
/// impl Fragments for Header {
///     fn collect<'a>(&'a self, pieces: &mut Pieces<'a>) {
///         pieces.push(self.name.as_bytes());
///         pieces.push(b": ");
///         pieces.push_text(self.value);
///         pieces.push(b"\r\n");
///     }
/// }
///
/// let header = Header { name: "Content-Length".to_owned(), value: 12 };
/// let mut pieces = Pieces::default();
/// header.collect(&mut pieces);
/// assert_eq!(pieces.join(), b"Content-Length: 12\r\n");
/// ```
///
/// What is none of these, OpenResty's `bad data type`, does not compile:
///
/// ```compile_fail,E0277
/// # let (socket, _peer) = cosocket::Cosocket::pair()?;
/// socket.send(("answer: ", true))?; // `Text(true)` is one
/// # std::io::Result::Ok(())
/// ```
pub trait Fragments {
    /// Adds what is to be sent, piece by piece.
    fn collect<'a>(&'a self, pieces: &mut Pieces<'a>);
}

/// The pieces of a message, in order, borrowed from where they lie.
#[derive(Clone, Debug, Default)]
pub struct Pieces<'a> {
    first: Piece<'a>,
    rest: Vec<Piece<'a>>,
    /// What was printed.
    texts: Vec<u8>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Piece<'a> {
    Bytes(&'a [u8]),
    Text(Range<usize>),
}

impl Default for Piece<'_> {
    fn default() -> Self {
        Piece::Bytes(&[])
    }
}

impl<'a> Pieces<'a> {
    /// Adds bytes. Empty ones leave no trace.
    pub fn push(&mut self, bytes: &'a [u8]) {
        if !bytes.is_empty() {
            self.add(Piece::Bytes(bytes), bytes.len());
        }
    }

    /// Adds what `value` prints.
    pub fn push_text(&mut self, value: impl fmt::Display) {
        let start = self.texts.len();
        write!(self.texts, "{value}").expect("a vector takes it");
        let end = self.texts.len();
        if start < end {
            self.add(Piece::Text(start..end), end - start);
        }
    }

    fn add(&mut self, piece: Piece<'a>, len: usize) {
        if self.len == 0 {
            self.first = piece;
        } else {
            self.rest.push(piece);
        }
        self.len += len;
    }

    /// How many bytes there are in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces. None is empty.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let first = (self.len > 0).then_some(&self.first);
        first.into_iter().chain(&self.rest).map(|piece| self.bytes(piece))
    }

    /// One string of bytes, if that is all, or nothing.
    pub(super) fn as_one(&self) -> Option<&[u8]> {
        self.rest.is_empty().then(|| self.bytes(&self.first))
    }

    /// A copy of all, joined.
    #[must_use]
    pub fn join(&self) -> Vec<u8> {
        let mut joined = Vec::with_capacity(self.len);
        self.iter().for_each(|bytes| joined.extend_from_slice(bytes));
        joined
    }

    fn bytes<'b>(&'b self, piece: &'b Piece<'a>) -> &'b [u8] {
        match piece {
            Piece::Bytes(bytes) => bytes,
            Piece::Text(range) => &self.texts[range.clone()],
        }
    }
}

impl Fragments for [u8] {
    fn collect<'a>(&'a self, pieces: &mut Pieces<'a>) {
        pieces.push(self);
    }
}

impl<const N: usize> Fragments for [u8; N] {
    fn collect<'a>(&'a self, pieces: &mut Pieces<'a>) {
        pieces.push(self);
    }
}

impl Fragments for Vec<u8> {
    fn collect<'a>(&'a self, pieces: &mut Pieces<'a>) {
        pieces.push(self);
    }
}

impl Fragments for str {
    fn collect<'a>(&'a self, pieces: &mut Pieces<'a>) {
        pieces.push(self.as_bytes());
    }
}

impl Fragments for String {
    fn collect<'a>(&'a self, pieces: &mut Pieces<'a>) {
        pieces.push(self.as_bytes());
    }
}

impl Fragments for IoSlice<'_> {
    fn collect<'a>(&'a self, pieces: &mut Pieces<'a>) {
        pieces.push(self);
    }
}

impl<T: Fragments> Fragments for [T] {
    fn collect<'a>(&'a self, pieces: &mut Pieces<'a>) {
        self.iter().for_each(|part| part.collect(pieces));
    }
}

impl<T: Fragments, const N: usize> Fragments for [T; N] {
    fn collect<'a>(&'a self, pieces: &mut Pieces<'a>) {
        self.as_slice().collect(pieces);
    }
}

impl<T: Fragments> Fragments for Vec<T> {
    fn collect<'a>(&'a self, pieces: &mut Pieces<'a>) {
        self.as_slice().collect(pieces);
    }
}

impl<T: Fragments> Fragments for Option<T> {
    fn collect<'a>(&'a self, pieces: &mut Pieces<'a>) {
        self.iter().for_each(|part| part.collect(pieces));
    }
}

impl<T: Fragments + ToOwned + ?Sized> Fragments for Cow<'_, T> {
    fn collect<'a>(&'a self, pieces: &mut Pieces<'a>) {
        (**self).collect(pieces);
    }
}

macro_rules! pointers {
    ($($pointer:ty),*) => {
        $(impl<T: Fragments + ?Sized> Fragments for $pointer {
            fn collect<'a>(&'a self, pieces: &mut Pieces<'a>) {
                (**self).collect(pieces);
            }
        })*
    };
}

pointers!(&T, &mut T, Box<T>, Rc<T>, Arc<T>);

/// Sends a value as it prints: [`Fragments`] of anything that has `Display`.
///
/// Integers are no fragments by themselves, lest `[22, 3, 1]` be sent as the text `2231`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<T>(pub T);

impl<T: fmt::Display> Fragments for Text<T> {
    fn collect<'a>(&'a self, pieces: &mut Pieces<'a>) {
        pieces.push_text(&self.0);
    }
}

/// A number with up to 14 significant digits, as Lua prints it: what OpenResty sends for one.
///
/// ```
/// assert_eq!(cosocket::Number(0.1 + 0.2).to_string(), "0.3");
/// assert_eq!(cosocket::Number(1e15).to_string(), "1e+15");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(pub f64);

impl Fragments for Number {
    fn collect<'a>(&'a self, pieces: &mut Pieces<'a>) {
        pieces.push_text(self);
    }
}

/// As `printf(3)` has it for `%.14g`.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Number(number) = *self;
        if !number.is_finite() {
            return f.write_str(&number.to_string().to_ascii_lowercase());
        }
        let scientific = format!("{number:.13e}");
        let (digits, exponent) = scientific.split_once('e').expect("scientific notation");
        let exponent: i32 = exponent.parse().expect("an exponent");
        if !(-4..14).contains(&exponent) {
            let sign = if exponent < 0 { '-' } else { '+' };
            return write!(f, "{}e{sign}{:02}", without_zeros(digits), exponent.abs());
        }
        f.write_str(without_zeros(&format!("{number:.*}", (13 - exponent) as usize)))
    }
}

fn without_zeros(digits: &str) -> &str {
    match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => digits,
    }
}

macro_rules! tuples {
    ($($part:ident)*) => {
        impl<$($part: Fragments),*> Fragments for ($($part,)*) {
            #[allow(non_snake_case)]
            fn collect<'a>(&'a self, pieces: &mut Pieces<'a>) {
                let ($($part,)*) = self;
                $($part.collect(pieces);)*
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(fragments: impl Fragments) -> String {
        let mut pieces = Pieces::default();
        fragments.collect(&mut pieces);
        assert_eq!(pieces.len(), pieces.join().len());
        assert!(pieces.iter().all(|piece| !piece.is_empty()));
        String::from_utf8(pieces.join()).unwrap()
    }

    #[test]
    fn pieces_of_any_depth_come_in_order() {
        assert_eq!(joined(""), "");
        assert_eq!(joined(b"one"), "one");
        assert_eq!(joined(["a", "", "b"]), "ab");
        let nested = vec![vec![Some("x"), None], vec![Some("y")]];
        let tail = (String::from("z"), Text(-2), b"!".to_vec(), Text(""));
        assert_eq!(joined((Text(1), "-", &nested, tail)), "1-xyz-2!");
        assert_eq!(joined(Cow::Borrowed("cow")), "cow");
        assert_eq!(joined(Arc::<[u8]>::from(&b"arc"[..])), "arc");
    }

    // Section 2 item 16; each as C's printf has it.
    #[test]
    fn floats_have_fourteen_significant_digits() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1 + 0.2, "0.3"),
            (2.0_f64.sqrt() * 1e3, "1414.2135623731"),
            (1e13, "10000000000000"),
            (99999999999999.9, "1e+14"),
            (1e14, "1e+14"),
            (-1.5e300, "-1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(joined(Number(number)), text);
        }
    }

    #[test]
    fn one_string_of_bytes_is_not_copied() {
        let bytes = vec![7; 100];
        let mut pieces = Pieces::default();
        let fragments = ("", &bytes, None::<&str>);
        fragments.collect(&mut pieces);
        assert!(std::ptr::eq(pieces.as_one().unwrap().as_ptr(), bytes.as_ptr()));
    }
}
