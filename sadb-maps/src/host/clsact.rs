//! Programs at the traffic-control hooks of kernels before 6.6, which have no TCX: filters of kind bpf on a clsact
//! qdisc.
//!
//! Such a filter is no link: it cannot be pinned, and it stays until somebody removes it or its interface goes. Ours are
//! known by priority, handle and the number of the program, which is pinned. The priority is the first: a filter before
//! ours could let packets pass that we never see. The qdisc stays when we go, since others may rely on it by then.

use super::loader::LoaderError;
use super::netdev::{PAIR_GROUP, Route};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use aya::sys::SyscallError;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcBpfFlags, TcFilterBpfOption, TcHandle, TcMessage, TcOption};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Nothing comes before it.
const PRIORITY: u32 = 1;

/// The handle of our filters among those of the same priority.
const HANDLE: u32 = PAIR_GROUP;

/// Which way the packets go that a filter sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Ingress,
    Egress,
}

impl Hook {
    /// Both of them.
    pub(super) const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    fn parent(self) -> TcHandle {
        let minor = match self {
            Self::Ingress => TcHandle::MIN_INGRESS,
            Self::Egress => TcHandle::MIN_EGRESS,
        };
        TcHandle { minor, ..TcHandle::CLSACT }
    }
}

impl From<Hook> for TcAttachType {
    fn from(hook: Hook) -> Self {
        match hook {
            Hook::Ingress => Self::Ingress,
            Hook::Egress => Self::Egress,
        }
    }
}

/// Whether this kernel has TCX, asked by listing the programs of the loopback interface. Where the question itself is
/// refused, attaching will say why.
pub(super) fn has_tcx() -> bool {
    !matches!(
        SchedClassifier::query_tcx("lo", TcAttachType::Ingress),
        Err(ProgramError::SyscallError(SyscallError { io_error, .. })) if io_error.raw_os_error() == Some(libc::EINVAL)
    )
}

/// Attaches a program, in place of one of ours that is there, without a moment in which there is none.
pub(super) fn put(
    route: &Route,
    index: u32,
    hook: Hook,
    program: BorrowedFd<'_>,
    name: &str,
) -> Result<(), LoaderError> {
    let mut qdisc = message(index, TcHandle::CLSACT);
    qdisc.header.handle = TcHandle { minor: 0, ..TcHandle::CLSACT };
    qdisc.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    let request = RouteNetlinkMessage::NewQueueDiscipline(qdisc);
    match route.act(request, NLM_F_CREATE | NLM_F_EXCL, "clsact qdisc") {
        Err(LoaderError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    let mut filter = ours(index, hook);
    filter.attributes.push(TcAttribute::Options(vec![
        TcOption::Bpf(TcFilterBpfOption::ProgFd(program.as_raw_fd() as u32)),
        TcOption::Bpf(TcFilterBpfOption::ProgName(name.to_owned())),
        // The return value of the program is the verdict.
        TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
    ]));
    route.act(RouteNetlinkMessage::NewTrafficFilter(filter), NLM_F_CREATE, "filter on the clsact qdisc")
}

/// The number of the program in our filter; `None` where there is no such filter.
pub(super) fn program(route: &Route, index: u32, hook: Hook) -> Result<Option<u32>, LoaderError> {
    let request = RouteNetlinkMessage::GetTrafficFilter(message(index, hook.parent()));
    let answers = match route.exchange(request, NLM_F_DUMP) {
        Ok(answers) => answers,
        // The interface is gone, or has no such qdisc.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENODEV | libc::EINVAL | libc::ENOENT)) => return Ok(None),
        Err(e) => return Err(LoaderError::io("filters of an interface")(e)),
    };
    let filters = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewTrafficFilter(filter) => Some(filter),
        _ => None,
    });
    let mut ours = filters.filter(|filter| {
        filter.header.handle == TcHandle::from(HANDLE)
            && filter.header.info >> 16 == PRIORITY
            && filter.attributes.contains(&TcAttribute::Kind("bpf".to_owned()))
    });
    Ok(ours.find_map(|filter| {
        filter.attributes.into_iter().find_map(|attribute| match attribute {
            TcAttribute::Options(options) => options.into_iter().find_map(|option| match option {
                TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(id),
                _ => None,
            }),
            _ => None,
        })
    }))
}

/// Removes our filter if it has the program with this number.
pub(super) fn remove(route: &Route, index: u32, hook: Hook, id: u32) -> Result<(), LoaderError> {
    if program(route, index, hook)? != Some(id) {
        return Ok(());
    }
    match route.act(RouteNetlinkMessage::DelTrafficFilter(ours(index, hook)), 0, "removal of a filter") {
        // Its interface went in the meantime.
        Err(LoaderError::Io { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

fn message(index: u32, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = index as i32;
    message.header.parent = parent;
    message
}

fn ours(index: u32, hook: Hook) -> TcMessage {
    let mut filter = message(index, hook.parent());
    filter.header.handle = HANDLE.into();
    // The priority, and every protocol in network byte order.
    filter.header.info = PRIORITY << 16 | u32::from((libc::ETH_P_ALL as u16).to_be());
    filter.attributes.push(TcAttribute::Kind("bpf".to_owned()));
    filter
}
