//! The IKEv2 core: RFC 7296 without a socket, a clock, a map or a task. Bytes, time, commands and policy come in; bytes,
//! timers and effects come out. See [`api`] for every type that crosses the border.

pub mod api;
