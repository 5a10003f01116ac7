//! A guide, page by page. Nothing but text; every sample is run as a test.
//!
//! 1. [The first server](_01_first_server)
//! 2. [What suspends and what blocks](_02_what_suspends)
//! 3. [Stacks](_03_stacks)
//! 4. [Timeouts and cancellation](_04_timeouts_and_cancellation)
//! 5. [Porting from std](_05_porting_from_std)
//! 6. [Soundness](_06_soundness)
//! 7. [Tuning Linux](_07_tuning_linux)
//! 8. [Internals](_08_internals)
//! 9. [Porting from tokio](_09_porting_from_tokio)
//! 10. [Coming from OpenResty](_10_coming_from_openresty)
//! 11. [Keepalive pools](_11_connection_pool)
//! 12. [Names](_12_names)
//! 13. [Servers](_13_servers)
//! 14. [Coming from Swoole and from libuv](_14_coming_from_swoole_and_libuv)
//! 15. TLS, with the feature `tls`: `_15_tls`

#[doc = include_str!("01_first_server.md")]
pub mod _01_first_server {}

#[doc = include_str!("02_what_suspends.md")]
pub mod _02_what_suspends {}

#[doc = include_str!("03_stacks.md")]
pub mod _03_stacks {}

#[doc = include_str!("04_timeouts_and_cancellation.md")]
pub mod _04_timeouts_and_cancellation {}

#[doc = include_str!("05_porting_from_std.md")]
pub mod _05_porting_from_std {}

#[doc = include_str!("06_soundness.md")]
pub mod _06_soundness {}

#[doc = include_str!("07_tuning_linux.md")]
pub mod _07_tuning_linux {}

#[doc = include_str!("08_internals.md")]
pub mod _08_internals {}

#[doc = include_str!("09_porting_from_tokio.md")]
pub mod _09_porting_from_tokio {}

#[doc = include_str!("10_coming_from_openresty.md")]
pub mod _10_coming_from_openresty {}

#[doc = include_str!("11_connection_pool.md")]
pub mod _11_connection_pool {}

#[doc = include_str!("12_names.md")]
pub mod _12_names {}

#[doc = include_str!("13_servers.md")]
pub mod _13_servers {}

#[doc = include_str!("14_coming_from_swoole_and_libuv.md")]
pub mod _14_coming_from_swoole_and_libuv {}

#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
#[doc = include_str!("15_tls.md")]
pub mod _15_tls {}
