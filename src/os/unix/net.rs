//! `std::os::unix::net`, for coroutines: Unix sockets.
