//! `std::os::unix`.

pub mod net;
