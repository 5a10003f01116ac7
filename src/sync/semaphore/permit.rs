//! What `acquire` returns: the right to so many permits, which come back when it is dropped.

use std::fmt;
use std::sync::Arc;

use super::Semaphore;

/// Permits of a [`Semaphore`] that is borrowed; they are given back when this is dropped.
#[must_use = "the permits are given back when this is dropped"]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    count: u32,
}

/// Permits of a [`Semaphore`] that is shared; they are given back when this is dropped.
#[must_use = "the permits are given back when this is dropped"]
pub struct OwnedSemaphorePermit {
    semaphore: Arc<Semaphore>,
    count: u32,
}

/// What both kinds of permit can do. `$share` makes another reference to the semaphore.
macro_rules! permit {
    ($permit:ident $(<$lifetime:lifetime>)?, $semaphore:ty, $share:expr) => {
        impl $(<$lifetime>)? $permit $(<$lifetime>)? {
            pub(super) fn new(semaphore: $semaphore, count: u32) -> Self {
                $permit { semaphore, count }
            }

            /// How many permits these are.
            #[must_use]
            pub fn num_permits(&self) -> usize {
                self.count as usize
            }

            /// Keeps the permits from coming back: the semaphore has so many fewer from now on.
            pub fn forget(mut self) {
                self.count = 0;
            }

            /// Adds the permits of `other` to these.
            ///
            /// # Panics
            ///
            /// When `other` is of another semaphore, or together they are more than `u32::MAX`.
            /// Both are given back then.
            pub fn merge(&mut self, mut other: Self) {
                let same = std::ptr::eq::<Semaphore>(&*self.semaphore, &*other.semaphore);
                assert!(same, "permits of different semaphores");
                self.count = self.count.checked_add(other.count).expect("too many permits in one");
                other.count = 0;
            }

            /// Splits `count` permits off; `None` when these are fewer.
            #[must_use = "the permits split off are given back when they are dropped"]
            pub fn split(&mut self, count: usize) -> Option<Self> {
                let split = u32::try_from(count).ok()?;
                self.count = self.count.checked_sub(split)?;
                Some($permit { semaphore: $share(&self.semaphore), count: split })
            }
        }

        impl $(<$lifetime>)? Drop for $permit $(<$lifetime>)? {
            #[inline]
            fn drop(&mut self) {
                if self.count > 0 {
                    self.semaphore.give(u64::from(self.count));
                }
            }
        }

        impl $(<$lifetime>)? fmt::Debug for $permit $(<$lifetime>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut debug = f.debug_struct(stringify!($permit));
                debug.field("permits", &self.count).finish_non_exhaustive()
            }
        }
    };
}

permit!(SemaphorePermit<'a>, &'a Semaphore, |semaphore: &&'a Semaphore| *semaphore);
permit!(OwnedSemaphorePermit, Arc<Semaphore>, Arc::clone);

impl OwnedSemaphorePermit {
    /// The semaphore that these are of.
    #[must_use]
    pub fn semaphore(&self) -> &Arc<Semaphore> {
        &self.semaphore
    }
}
