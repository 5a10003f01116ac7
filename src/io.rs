//! `std::io`, where it waits: pipes, standard input and output, copies.
