//! The cryptography of the IKE SA, from libraries, behind one provider trait.

mod secret;

pub use secret::Secret;
