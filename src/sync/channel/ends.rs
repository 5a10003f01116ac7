//! What the ends of the channels have in common, whatever their kind.

/// Makes ends of channels what arms of a select are made of, and has them print their name.
macro_rules! ends {
    ($($name:ident $(: $kind:ident)? = |$end:ident| $channel:expr;)*) => {$(
        impl<T> End for $name<T> {
            type Value = T;

            fn channel(&self) -> &Channel<T> {
                let $end = self;
                $channel
            }
        }

        $(impl<T> $kind for $name<T> {})?

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}

/// How many values the queue of a channel has, for both of its ends.
macro_rules! measures {
    ($($name:ident)*) => {$(
        impl<T> $name<T> {
            /// Whether no value is in the queue. Always so with a capacity of 0.
            pub fn is_empty(&self) -> bool {
                self.channel.len() == 0
            }

            /// Whether the queue has no room. Always so with a capacity of 0.
            pub fn is_full(&self) -> bool {
                self.channel.capacity() == Some(self.channel.len())
            }

            /// How many values are in the queue.
            pub fn len(&self) -> usize {
                self.channel.len()
            }

            /// How many values the queue may hold; `None` if there is no limit.
            pub fn capacity(&self) -> Option<usize> {
                self.channel.capacity()
            }

            /// Whether the two are ends of one channel.
            pub fn same_channel(&self, other: &$name<T>) -> bool {
                Arc::ptr_eq(&self.channel, &other.channel)
            }
        }
    )*};
}

/// The three iterators over a `Receiver`, and how it is made into them.
macro_rules! iterators {
    () => {
        /// The values of a receiver as they come; see [`Receiver::iter`].
        #[derive(Debug)]
        pub struct Iter<'a, T: 'a> {
            receiver: &'a Receiver<T>,
        }

        /// The values of a receiver that are there; see [`Receiver::try_iter`].
        #[derive(Debug)]
        pub struct TryIter<'a, T: 'a> {
            receiver: &'a Receiver<T>,
        }

        /// As [`Iter`], and owns the receiver.
        #[derive(Debug)]
        pub struct IntoIter<T> {
            receiver: Receiver<T>,
        }

        impl<T> Receiver<T> {
            /// The values as they come, until all senders are gone; waits for each.
            pub fn iter(&self) -> Iter<'_, T> {
                Iter { receiver: self }
            }

            /// The values that can be had without waiting.
            pub fn try_iter(&self) -> TryIter<'_, T> {
                TryIter { receiver: self }
            }
        }

        impl<T> Iterator for Iter<'_, T> {
            type Item = T;

            fn next(&mut self) -> Option<T> {
                self.receiver.recv().ok()
            }
        }

        impl<T> Iterator for TryIter<'_, T> {
            type Item = T;

            fn next(&mut self) -> Option<T> {
                self.receiver.try_recv().ok()
            }
        }

        impl<T> Iterator for IntoIter<T> {
            type Item = T;

            fn next(&mut self) -> Option<T> {
                self.receiver.recv().ok()
            }
        }

        impl<'a, T> IntoIterator for &'a Receiver<T> {
            type Item = T;
            type IntoIter = Iter<'a, T>;

            fn into_iter(self) -> Iter<'a, T> {
                self.iter()
            }
        }

        impl<T> IntoIterator for Receiver<T> {
            type Item = T;
            type IntoIter = IntoIter<T>;

            fn into_iter(self) -> IntoIter<T> {
                IntoIter { receiver: self }
            }
        }
    };
}

pub(in crate::sync) use {ends, iterators, measures};
