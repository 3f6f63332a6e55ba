//! Frames: a bounded length and a JSON text. Pure functions; who reads and writes the octets is the caller's affair, so that
//! a blocking client and an asynchronous server share them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// The longest JSON text of a frame, in octets.
pub const MAX_FRAME: usize = 1024 * 1024;

/// Octets of the length in front.
pub const HEADER: usize = 4;

/// Why octets are no frame, or a message fits in none.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME`].
    #[error("a message of {0} octets is longer than the door takes ({MAX_FRAME})")]
    TooLong(usize),
    /// Not the JSON of the message expected here.
    #[error("a malformed message")]
    Malformed,
}

/// A message with its length in front. Wiped when dropped, as it may hold keys.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn encode<T: Serialize>(message: &T) -> Result<Zeroizing<Vec<u8>>, FrameError> {
    // Room for nearly every message, so that growing does not leave copies of keys behind.
    let mut frame = Zeroizing::new(Vec::with_capacity(16 * 1024));
    frame.extend_from_slice(&[0; HEADER]);
    serde_json::to_writer(&mut *frame, message).map_err(|_| FrameError::Malformed)?;
    let length = frame.len() - HEADER;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    let header = u32::try_from(length).map_err(|_| FrameError::TooLong(length))?.to_be_bytes();
    if let Some(place) = frame.first_chunk_mut::<HEADER>() {
        *place = header;
    }
    Ok(frame)
}

/// The length of the text that follows a header.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn length(header: [u8; HEADER]) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length > MAX_FRAME { Err(FrameError::TooLong(length)) } else { Ok(length) }
}

/// The message in the text of a frame.
///
/// # Errors
/// [`FrameError::Malformed`], without the text: it may hold keys.
pub fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(text).map_err(|_| FrameError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Reply, Request};

    #[test]
    fn lengths_are_bounded() {
        assert!(matches!(length(u32::MAX.to_be_bytes()), Err(FrameError::TooLong(_))));
        assert_eq!(length(7u32.to_be_bytes()).unwrap(), 7);
        assert!(matches!(encode(&"x".repeat(MAX_FRAME)), Err(FrameError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn rob_01_decoding_never_panics(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Request>(&text);
            let _ = decode::<Reply>(&text);
        }

        #[test]
        fn round_trip(label in "\\PC{0,100}") {
            let request = Request::GetRule { label };
            let frame = encode(&request).unwrap();
            let (header, text) = frame.split_first_chunk::<HEADER>().unwrap();
            prop_assert_eq!(length(*header).unwrap(), text.len());
            prop_assert_eq!(decode::<Request>(text).unwrap(), request);
        }
    }
}
