//! Every pair of ESP transforms (ALG-20 to ALG-28), beside the RustCrypto crates.

use crate::reference::Keys;
use crate::support::Random;
use crate::support::sa::Sa;
use arbitrary::{Result, Unstructured};
use ebpf_esp::crypto::suite::{Error, Opened};
use ebpf_esp::crypto::transform::{Authentication, Direction, Encryption};

const ENCRYPTIONS: [Encryption; 10] = [
    Encryption::Null,
    Encryption::DesCbc,
    Encryption::TripleDesCbc,
    Encryption::BlowfishCbc,
    Encryption::AesCbc,
    Encryption::AesCtr,
    Encryption::AesCcm,
    Encryption::AesGcm,
    Encryption::AesGmac,
    Encryption::ChaCha20Poly1305,
];

const AUTHENTICATIONS: [Authentication; 7] = [
    Authentication::HmacMd5,
    Authentication::HmacSha1,
    Authentication::HmacSha256,
    Authentication::HmacSha384,
    Authentication::HmacSha512,
    Authentication::AesXcbc,
    Authentication::AesCmac,
];

pub(crate) fn run(octets: &[u8]) {
    // Too few octets are no case at all.
    let _ = compare(Unstructured::new(octets));
}

fn keys(u: &mut Unstructured<'_>) -> Result<Option<Keys>> {
    let encryption = *u.choose(&ENCRYPTIONS)?;
    let authentication = if encryption.is_aead() { Authentication::None } else { *u.choose(&AUTHENTICATIONS)? };
    let xcbc_or_cmac = matches!(authentication, Authentication::AesXcbc | Authentication::AesCmac);
    if encryption == Encryption::TripleDesCbc && xcbc_or_cmac {
        // No room for both schedules in an SA; installing one is refused.
        return Ok(None);
    }
    let key_len = match encryption {
        Encryption::BlowfishCbc => u.int_in_range(4..=56)?,
        _ => *u.choose(&[0, 8, 16, 24, 32])?,
    };
    let icv_len: u32 = if encryption.is_aead() { *u.choose(&[8, 12, 16])? } else { authentication.icv_len() };
    if !encryption.takes_key_len(key_len) || encryption.is_aead() && !encryption.takes_icv_len(icv_len) {
        return Ok(None);
    }
    let mut random = Random(u.arbitrary()?);
    Ok(Some(Keys {
        encryption,
        authentication,
        key: random.bytes(key_len),
        salt: random.bytes(encryption.salt_len() as usize),
        auth_key: random.bytes(authentication.key_len()),
        icv_len: icv_len as usize,
        spi: u.arbitrary()?,
        esn: u.arbitrary()?,
    }))
}

fn end(keys: &Keys, direction: Direction) -> Sa {
    let auth = (keys.authentication, &keys.auth_key[..]);
    Sa::new(direction, (keys.encryption, &keys.key), &keys.salt, auth)
        .with_spi(keys.spi, keys.esn)
        .with_icv_len(keys.icv_len as u32)
}

fn compare(mut u: Unstructured<'_>) -> Result<()> {
    let Some(keys) = keys(&mut u)? else { return Ok(()) };
    let (out, inbound) = (end(&keys, Direction::Encrypt), end(&keys, Direction::Decrypt));
    let front = inbound.suite().front();
    let (seq, next_header, flip, raw) = (u.arbitrary::<u64>()?, u.arbitrary()?, u.arbitrary::<u32>()?, u.arbitrary()?);
    let iv = u.bytes(keys.encryption.iv_len() as usize)?.to_vec();
    let rest = u.take_rest();
    let seq_high = (seq >> 32) as u32;
    if raw {
        return message_of_their_own(
            &keys,
            &out,
            &inbound,
            seq_high,
            &[&keys.spi.to_be_bytes()[..], &[0; 4], &iv].concat(),
            rest,
        );
    }

    let sealed = out.seal(rest, seq, &iv, next_header);
    assert_eq!(sealed, keys.seal(rest, seq, &iv, next_header), "sealed otherwise than the reference");
    let mut packet = sealed.clone();
    let opened = inbound.suite().open(&mut packet, seq_high);
    assert_eq!(opened, Ok(Opened { payload: front..front + rest.len(), next_header }));
    assert_eq!(&packet[front..front + rest.len()], rest);

    let mut forged = sealed;
    let bit = 32 + flip as usize % (8 * (forged.len() - 4));
    forged[bit / 8] ^= 1 << (bit % 8);
    packet.clone_from(&forged);
    assert_eq!(inbound.suite().open(&mut packet, seq_high), Err(Error::Icv), "bit {bit} may be flipped");
    assert_eq!(packet, forged, "a refused packet was changed");

    // What was never sealed: too short, no whole blocks, or a wrong ICV.
    let mut noise = rest.to_vec();
    assert!(inbound.suite().open(&mut noise, seq_high).is_err());
    assert_eq!(noise, rest, "a refused packet was changed");
    Ok(())
}

/// A message whose trailer is not ours: protected all the same, and judged by its trailer when it is opened.
fn message_of_their_own(
    keys: &Keys,
    out: &Sa,
    inbound: &Sa,
    seq_high: u32,
    front: &[u8],
    message: &[u8],
) -> Result<()> {
    let mut packet = [front, message, &vec![0; keys.icv_len]].concat();
    match out.suite().protect(&mut packet, seq_high) {
        Ok(()) => {}
        Err(error) => {
            let whole = message.len().is_multiple_of(keys.encryption.align() as usize);
            assert!(error == Error::Blocks && !whole, "{error:?} for {} octets", message.len());
            return Ok(());
        }
    }
    let opened = inbound.suite().open(&mut packet, seq_high);
    let expected = if message.len() < 2 {
        Err(Error::Bounds)
    } else if !message.len().is_multiple_of(keys.encryption.align() as usize) {
        Err(Error::Blocks)
    } else {
        trailer(front.len(), message)
    };
    assert_eq!(opened, expected);
    if opened.is_ok() {
        assert_eq!(&packet[front.len()..front.len() + message.len()], message);
    }
    Ok(())
}

/// RFC 4303 section 2.4: 1, 2, 3, …, pad length, next header.
fn trailer(front: usize, message: &[u8]) -> std::result::Result<Opened, Error> {
    let [.., pad, next_header] = *message else { return Err(Error::Bounds) };
    let len = message.len().checked_sub(2 + usize::from(pad)).ok_or(Error::Padding)?;
    let counts = message[len..message.len() - 2].iter().zip(1..=u8::MAX).all(|(octet, expected)| *octet == expected);
    if counts { Ok(Opened { payload: front..front + len, next_header }) } else { Err(Error::Padding) }
}
