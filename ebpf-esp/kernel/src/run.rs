//! One run of a program on one frame.

use anyhow::{Context, Result, ensure};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};
use std::time::Duration;

/// Octets that a frame may grow by in a run.
const GROWTH: usize = 256;

/// `struct xdp_md`: data, data_end, data_meta, ingress interface, its queue, egress interface.
const CONTEXT: usize = 24;

/// What a run left.
pub(crate) struct Outcome {
    /// What the program returned.
    pub(crate) value: u32,
    /// The frame, without metadata in front of it.
    pub(crate) frame: Vec<u8>,
    /// Time of one repetition.
    pub(crate) time: Duration,
}

/// Octets of `struct __sk_buff` up to the interface that the packet is on.
const SKB: usize = 44;

/// What a program at a traffic-control hook returned, and the frame that it left; `on` is the interface that the packet is on,
/// and `from` the one that it came in on: 0 for a packet of this host.
pub(crate) fn classify(program: &SchedClassifier, frame: &[u8], on: u32, from: u32) -> Result<(i32, Vec<u8>)> {
    let mut out = vec![0; frame.len() + GROWTH];
    let mut context = vec![0; SKB];
    context.splice(SKB - 8.., [from, on].into_iter().flat_map(u32::to_ne_bytes));
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        })
        .with_context(|| format!("BPF_PROG_TEST_RUN with {} octets", frame.len()))?;
    out.truncate(usize::try_from(result.data_size_out)?);
    Ok((result.return_value.cast_signed(), out))
}

/// Runs the program on a copy of `frame`, as if it came in on the interface with index `from`; 0 is loopback.
pub(crate) fn once(program: &Xdp, frame: &[u8], from: u32) -> Result<Outcome> {
    repeated(program, frame, from, 1)
}

/// Runs the program `times` times on the same copy of `frame`: the second run sees what the first has left.
pub(crate) fn repeated(program: &Xdp, frame: &[u8], from: u32, times: u32) -> Result<Outcome> {
    let mut out = vec![0; frame.len() + GROWTH];
    let length = u32::try_from(frame.len())?;
    let context: Vec<u8> = [0, length, 0, from, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    let mut context_out = [0; CONTEXT];
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ctx_out: Some(&mut context_out),
            repeat: times,
            ..TestRunOptions::new()
        })
        .with_context(|| format!("BPF_PROG_TEST_RUN with {length} octets"))?;
    out.truncate(usize::try_from(result.data_size_out)?);
    // The first word of the context is the offset of the frame behind its metadata.
    let meta = context_out.first_chunk().map_or(0, |word| u32::from_ne_bytes(*word)) as usize;
    ensure!(meta <= out.len(), "metadata of {meta} octets in front of {}", out.len());
    Ok(Outcome { value: result.return_value, frame: out.split_off(meta), time: result.duration })
}
