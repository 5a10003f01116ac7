//! A number of bytes that the caller knows.

use std::io::IoSliceMut;

use super::{FIRST_READ, Receiver, Source};
use crate::cosocket::Error;

impl Receiver {
    /// The next `len` bytes.
    pub fn exact(&mut self, source: &impl Source, len: usize) -> Result<Vec<u8>, Error> {
        self.begin()?;
        while self.buffer.len() < len {
            let missing = len - self.buffer.len();
            self.more(source, missing).map_err(|error| self.fail(error, 0))?;
        }
        Ok(self.take(len, 0))
    }

    /// The next bytes, as many as `destination` is long. On failure the first of them are there,
    /// and in the error too.
    pub fn exact_into(
        &mut self,
        source: &impl Source,
        destination: &mut [u8],
    ) -> Result<(), Error> {
        let slices = &mut [IoSliceMut::new(destination)];
        self.begin()?;
        let (filled, result) = Filling::new(self, slices).fill(source);
        result.map_err(|error| self.fail_with(error, slices, filled))
    }

    /// Fills the slices in their order; how many bytes that were: fewer than they take only at the
    /// end of the stream. On failure the first bytes are there, and in the error too.
    pub fn vectored(
        &mut self,
        source: &impl Source,
        slices: &mut [IoSliceMut<'_>],
    ) -> Result<usize, Error> {
        self.begin()?;
        let (filled, result) = Filling::new(self, slices).fill(source);
        match result {
            Ok(()) => Ok(filled),
            Err(error) if self.is_end(&error) && filled > 0 => Ok(filled),
            Err(error) => Err(self.fail_with(error, slices, filled)),
        }
    }

    fn fail_with(&mut self, error: Error, slices: &[IoSliceMut<'_>], filled: usize) -> Error {
        let error = self.fail(error, 0);
        debug_assert!(error.partial().is_empty(), "what waited is in the slices");
        error.with_partial(first_bytes(slices, filled))
    }

    /// The next bytes, at least one, as many as `destination` takes. It is not empty.
    fn some_into(&mut self, source: &impl Source, destination: &mut [u8]) -> Result<usize, Error> {
        if self.buffer.is_empty() {
            if destination.len() >= FIRST_READ {
                return self.more_into(source, destination);
            }
            self.more(source, destination.len())?;
        }
        Ok(self.take_into(destination))
    }
}

/// The caller's slices while they are filled. If a cancel unwinds the call, what is in them goes
/// back to where it waited.
struct Filling<'a, 'b> {
    receiver: &'a mut Receiver,
    slices: &'a mut [IoSliceMut<'b>],
    filled: usize,
}

impl<'a, 'b> Filling<'a, 'b> {
    fn new(receiver: &'a mut Receiver, slices: &'a mut [IoSliceMut<'b>]) -> Filling<'a, 'b> {
        Filling { receiver, slices, filled: 0 }
    }

    /// How many bytes are filled, and why not all.
    fn fill(mut self, source: &impl Source) -> (usize, Result<(), Error>) {
        let result = self.fill_slices(source);
        (std::mem::take(&mut self.filled), result)
    }

    fn fill_slices(&mut self, source: &impl Source) -> Result<(), Error> {
        for slice in self.slices.iter_mut() {
            let mut rest = &mut slice[..];
            while !rest.is_empty() {
                let len = self.receiver.some_into(source, rest)?;
                self.filled += len;
                rest = &mut rest[len..];
            }
        }
        Ok(())
    }
}

impl Drop for Filling<'_, '_> {
    fn drop(&mut self) {
        if self.filled > 0 {
            self.receiver.buffer.unread(&first_bytes(self.slices, self.filled));
        }
    }
}

fn first_bytes(slices: &[IoSliceMut<'_>], len: usize) -> Vec<u8> {
    slices.iter().flat_map(|slice| slice.iter().copied()).take(len).collect()
}
