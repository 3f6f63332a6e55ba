//! What the test-only object is told to do with a packet: shared with the program that loads it.

/// One packet to seal or open. Offsets count from the start of the frame.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Task {
    /// Offset of the plaintext when sealing, of the ciphertext when opening.
    pub src: u32,
    /// Offset of the ciphertext when sealing; not above `src`.
    pub dst: u32,
    /// Octets of payload when sealing, of ciphertext when opening.
    pub len: u32,
    /// Octets of padding to add. The programs that take any message add no trailer.
    pub pad: u32,
    /// Next header to add.
    pub next_header: u32,
    /// SPI in network order.
    pub spi: u32,
    /// High and low half of the sequence number in network order.
    pub seq: [u32; 2],
    /// The explicit IV in memory order.
    pub iv: [u32; 2],
    /// Offset of the additional data, for the programs that take any.
    pub aad: u32,
    /// Octets of the additional data.
    pub aad_len: u32,
}

/// Names of the maps: one entry each.
pub mod map {
    /// `Array<SaStatic>`: algorithm, key and salt.
    pub const SA: &str = "TEST_SA";
    /// `Array<GhashTable>`.
    pub const GHASH: &str = "TEST_GHASH";
    /// `Array<BlowfishState>`.
    pub const BLOWFISH: &str = "TEST_BLOWFISH";
    /// `Array<Task>`.
    pub const TASK: &str = "TEST_TASK";
}

/// Names of the programs, all of them XDP.
pub mod program {
    /// Seals as the data path does: ESP trailer and additional data of ESP.
    pub const ESP_SEAL: &str = "esp_seal";
    /// Opens as the data path does.
    pub const ESP_OPEN: &str = "esp_open";
    /// Puts the ICV of a separate authenticator over `len` octets at `src` to `dst`.
    pub const ESP_MAC: &str = "esp_mac";
    /// Seals any message with any additional data by the passes of the data path.
    pub const ANY_SEAL: &str = "any_seal";
    /// Opens any message with any additional data by the passes of the data path.
    pub const ANY_OPEN: &str = "any_open";
    /// Does nothing: what running a program costs.
    pub const EMPTY: &str = "empty";
}

/// The programs return a status of the cipher functions with this added, so that 0 is none of them.
pub const RAN: u32 = 0x100;
