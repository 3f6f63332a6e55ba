//! in.ikev2d: the IKE daemons, sans-I/O core and driver.
