//! The answer to a packet that is too long (TUN-11, ARC-ICMP-03), for any octets in the packet.

use crate::buffer::Buffer;
use crate::rfc1071::sum;
use ebpf_esp::too_big::{QUOTED, V4_GROWTH, V6_GROWTH, write_v4, write_v6};
use sadb_maps::Addr;

/// One octet for the version, four for the limit, 32 for the addresses, the rest is the frame.
pub(crate) fn run(octets: &[u8]) {
    let Some((head, packet)) = octets.split_at_checked(37) else { return };
    let v4 = head[0] & 1 == 0;
    let limit = u32::from_be_bytes(*head[1..5].as_array().expect("four"));
    let address = |at: usize| -> Addr {
        match v4 {
            true => Addr::v4(u32::from_ne_bytes(*head[at..at + 4].as_array().expect("four"))),
            false => Addr::from_octets(*head[at..at + 16].as_array().expect("sixteen")),
        }
    };
    let (src, dst) = (address(5), address(21));
    let growth = if v4 { V4_GROWTH } else { V6_GROWTH } as usize;
    let frame = [&vec![0; growth], packet].concat();
    let buffer = Buffer::new(&frame);
    let written = if v4 { write_v4(&buffer, src, dst, limit) } else { write_v6(&buffer, src, dst, limit) };
    let after = buffer.frame();
    let whole = frame.len() >= growth + 14 + QUOTED as usize;
    assert_eq!(written.is_some(), whole, "{} octets", frame.len());
    if !whole {
        return;
    }
    assert_eq!(after[..12], [&packet[6..12], &packet[..6]].concat(), "back to whom it came from");
    assert_eq!(after[14 + growth..], frame[14 + growth..], "the packet is quoted as it is");
    let quoted = QUOTED as usize;
    if v4 {
        assert_eq!((sum(&after[14..34]), sum(&after[34..42 + quoted])), (0xffff, 0xffff));
        assert_eq!(after[34..36], [3, 4]);
        assert_eq!(after[40..42], (limit as u16).to_be_bytes());
    } else {
        let pseudo = [&after[22..54], &(8 + QUOTED).to_be_bytes(), &[0, 0, 0, 58]].concat();
        assert_eq!(sum(&[&pseudo, &after[54..62 + quoted]].concat()), 0xffff);
        assert_eq!(after[54..56], [2, 0]);
        assert_eq!(after[58..62], limit.max(1280).to_be_bytes());
    }
}
