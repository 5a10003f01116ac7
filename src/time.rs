//! Time limits over whole blocks of code, and ticks.
