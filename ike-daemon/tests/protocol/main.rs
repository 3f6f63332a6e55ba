//! The IKEv2 core in memory: two endpoints, a fake clock, seeded randomness, and a wire that loses, doubles, reorders,
//! rewrites addresses or lies. Every test names the lines of the RFC checklist that it shows.

#[cfg(test)]
mod authority;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod children;
#[cfg(test)]
mod collisions;
#[cfg(test)]
mod flood;
#[cfg(test)]
mod forge;
#[cfg(test)]
mod fragments;
#[cfg(test)]
mod handshake;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod loss;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod nat;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod small_print;
#[cfg(test)]
mod util;
