//! What can be sent by one call: bytes, text, numbers, and lists of such, as deep as you like.

use std::borrow::Cow;
use std::io::{IoSlice, Write};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// Something that can be sent: see [`Cosocket::send`](super::Cosocket::send).
///
/// * bytes and text: `[u8]`, `str`, `Vec<u8>`, `String`, `Box`, `Arc`, `Cow` of them;
/// * integers, except `u8`, which bytes are made of, in decimal;
/// * slices, arrays and `Vec`s of fragments, tuples of up to eight, `Option`s of one.
///
/// Nothing is copied but numbers, and what is short. Implement it for your own types by handing
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
///         (&self.name, ": ", self.value, "\r\n").collect(pieces);
///     }
/// }
///
/// let header = Header { name: "Content-Length".to_owned(), value: 12 };
/// let mut pieces = Pieces::default();
/// header.collect(&mut pieces);
/// assert_eq!(pieces.join(), b"Content-Length: 12\r\n");
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
    /// The texts of numbers.
    numbers: Vec<u8>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Piece<'a> {
    Bytes(&'a [u8]),
    Number(Range<usize>),
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

    /// Adds a number, in decimal.
    fn push_number(&mut self, number: impl std::fmt::Display) {
        let start = self.numbers.len();
        write!(self.numbers, "{number}").expect("a vector takes it");
        let end = self.numbers.len();
        self.add(Piece::Number(start..end), end - start);
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
            Piece::Number(range) => &self.numbers[range.clone()],
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

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl Fragments for $number {
            fn collect<'a>(&'a self, pieces: &mut Pieces<'a>) {
                pieces.push_number(self);
            }
        })*
    };
}

numbers!(i8, i16, i32, i64, i128, isize, u16, u32, u64, u128, usize);

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
        assert_eq!(
            joined((1, "-", &nested, (String::from("z"), -2_i64), b"!".to_vec())),
            "1-xyz-2!"
        );
        assert_eq!(joined(Cow::Borrowed("cow")), "cow");
        assert_eq!(joined(Arc::<[u8]>::from(&b"arc"[..])), "arc");
    }

    #[test]
    fn one_string_of_bytes_is_not_copied() {
        let bytes = vec![7; 100];
        let mut pieces = Pieces::default();
        ("", &bytes, None::<i32>).collect(&mut pieces);
        assert!(std::ptr::eq(pieces.as_one().unwrap().as_ptr(), bytes.as_ptr()));
    }
}
