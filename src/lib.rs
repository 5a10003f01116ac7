//! Blocking-style networking that scales.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("cosocket needs 64-bit Linux (5.11 or later); other systems are not supported");

#[allow(unsafe_code)]
#[cfg_attr(not(test), allow(dead_code, unused_imports))]
mod overflow;
#[allow(unsafe_code)]
#[cfg_attr(not(test), allow(dead_code, unused_imports))]
mod stack;

#[cfg(test)]
mod child;
