//! `std::process`, for coroutines: waiting for children without blocking the worker.
