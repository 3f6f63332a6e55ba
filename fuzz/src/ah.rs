//! What AH covers (RFC 4302 section 3.3.3 and appendix A; AH-04 and its neighbours): the walk that zeroes mutable fields
//! beside one that takes the header apart first.

use crate::buffer::Buffer;
use ebpf_esp::ah::{MAX_STEPS, Step, Walk, step, zero_mutable};

/// The first octet says where the IP header starts and of which version it is, the second where AH is said to be.
pub(crate) fn run(octets: &[u8]) {
    let [first, second, packet @ ..] = octets else { return };
    let (l3, v4) = (usize::from(first >> 4), first & 1 == 0);
    let ah = l3 + if v4 { 20 + usize::from(second % 11) * 4 } else { 40 + usize::from(second & 31) * 8 };
    let buffer = Buffer::new(packet);
    let found = walk(&buffer, l3, ah, v4);
    let after = buffer.frame();
    let expected = slow(packet, l3, ah, v4);
    assert_eq!(found.map(|()| after), expected);
}

fn walk(buffer: &Buffer, l3: usize, ah: usize, v4: bool) -> Option<()> {
    let mut state = Walk::default();
    zero_mutable(buffer, l3 as u32, ah as u32, v4, &mut state)?;
    for _ in 0..MAX_STEPS {
        match step(buffer, &mut state) {
            Step::More => {}
            Step::Done => return Some(()),
            Step::Bad => return None,
        }
    }
    None
}

/// The frame with everything mutable zero; `None` when it is refused.
fn slow(frame: &[u8], l3: usize, ah: usize, v4: bool) -> Option<Vec<u8>> {
    let mut frame = frame.to_vec();
    let steps = if v4 { options_v4(&mut frame, l3, ah)? } else { extensions_v6(&mut frame, l3, ah)? };
    (steps <= MAX_STEPS as usize).then_some(frame)
}

/// The number of steps that the walk under test may need: it gives up after [`MAX_STEPS`].
fn options_v4(frame: &mut [u8], l3: usize, ah: usize) -> Option<usize> {
    let header = frame.get_mut(l3..l3 + 12)?;
    [1, 6, 7, 8, 10, 11].iter().for_each(|at| header[*at] = 0);
    let mut at = l3 + 20;
    while at < ah {
        match *frame.get(at)? {
            0 => break,
            1 => at += 1,
            131 | 137 => return None,
            option => {
                let len = usize::from(*frame.get(at + 1)?);
                if len < 2 || at + len > ah {
                    return None;
                }
                let data = frame.get_mut(at..at + len);
                if ![130, 133, 134, 148, 149].contains(&option) {
                    data?.fill(0);
                }
                at += len;
            }
        }
    }
    Some(0)
}

fn extensions_v6(frame: &mut [u8], l3: usize, ah: usize) -> Option<usize> {
    let header = frame.get_mut(l3..l3 + 8)?;
    header[..4].copy_from_slice(&[0x60, 0, 0, 0]);
    header[7] = 0;
    let mut next = header[6];
    let (mut at, mut steps) = (l3 + 40, 1);
    while at < ah {
        let [following, len] = *frame.get(at..at + 2)?.as_array()?;
        let end = at + (usize::from(len) + 1) * 8;
        steps += 1;
        match next {
            0 | 60 => steps += zero_options(frame, at + 2, end, ah)?,
            43 if *frame.get(at + 3)? == 0 => {}
            _ => return None,
        }
        (at, next) = (end, following);
    }
    (at == ah).then_some(steps)
}

fn zero_options(frame: &mut [u8], mut at: usize, end: usize, ah: usize) -> Option<usize> {
    let mut steps = 0;
    while at < end && at < ah {
        let option = *frame.get(at)?;
        if option == 0 {
            (at, steps) = (at + 1, steps + 1);
            continue;
        }
        let len = usize::from(*frame.get(at + 1)?);
        if at + 2 + len > end {
            return None;
        }
        if option & 0x20 != 0 {
            frame.get_mut(at + 2..at + 2 + len)?.fill(0);
        }
        (at, steps) = (at + 2 + len, steps + 1 + len);
    }
    (at <= ah).then_some(steps)
}
