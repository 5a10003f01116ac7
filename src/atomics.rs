//! The atomics of code that is also modelled with loom: `std`'s, or loom's under `--cfg loom`.

#[cfg(loom)]
pub(crate) use self::modelled::{AtomicPtr, AtomicU32, AtomicU64};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::Ordering;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Loom's atomics, but for `try_update`. Loom remembers one last access per atomic, so the load
/// with which such a loop starts makes it forget another thread's load just before, and it never
/// tries the loop's exchange ahead of that one (loom's issue 392). Here the loop starts with an
/// exchange that changes nothing. It cannot read a stale value as a load might; the exchange
/// that follows would find that out anyhow.
#[cfg(loom)]
mod modelled {
    use std::ops::Deref;

    use super::Ordering;

    macro_rules! modelled {
        ($name:ident $(<$t:ident>)?, $value:ty, $nothing:expr) => {
            #[derive(Debug)]
            pub(crate) struct $name $(<$t>)? (loom::sync::atomic::$name $(<$t>)?);

            #[allow(dead_code)]
            impl $(<$t>)? $name $(<$t>)? {
                pub(crate) fn new(value: $value) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }

                pub(crate) fn try_update(
                    &self,
                    success: Ordering,
                    failure: Ordering,
                    mut change: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    let guess = self.0.compare_exchange($nothing, $nothing, failure, failure);
                    let mut value = guess.unwrap_or_else(|value| value);
                    while let Some(after) = change(value) {
                        match self.0.compare_exchange(value, after, success, failure) {
                            Ok(before) => return Ok(before),
                            Err(newer) => value = newer,
                        }
                    }
                    Err(value)
                }
            }

            impl $(<$t>)? Deref for $name $(<$t>)? {
                type Target = loom::sync::atomic::$name $(<$t>)?;

                fn deref(&self) -> &Self::Target {
                    &self.0
                }
            }
        };
    }

    modelled!(AtomicU32, u32, 0);
    modelled!(AtomicU64, u64, 0);
    modelled!(AtomicPtr<T>, *mut T, std::ptr::null_mut());
}
