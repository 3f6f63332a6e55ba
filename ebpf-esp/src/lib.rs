//! ESP in eBPF: the cipher and packet code that runs in the kernel, as a library that is tested on the host.

#![cfg_attr(not(test), no_std)]

pub mod ah;
pub mod crypto;
pub mod esp;
pub mod forward;
pub mod packet;
pub mod path_mtu;
pub mod replay;
pub mod spd;
pub mod too_big;
