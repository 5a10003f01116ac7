//! The cosocket.

pub(crate) mod pool;
