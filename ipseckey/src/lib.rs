//! ipseckey, ipsecconf and espadm: administration of the SADB, the SPD and the data path.
