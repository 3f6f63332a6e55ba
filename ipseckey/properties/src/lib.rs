//! Properties of the services: what Solaris keeps in the repository of SMF, in one file for each service.
//!
//! [`table`] has the services with the names, types and ranges of their properties; [`store`] keeps values. Whoever reads a
//! value here gets one that fits its property: what does not is refused when it is set and when it is read.

pub mod store;
pub mod table;

pub use store::{PropertyError, Store, Values};
pub use table::{BadValue, Kind, Property, SERVICES, Service};
