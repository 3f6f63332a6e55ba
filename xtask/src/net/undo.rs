//! What is to be undone at the end, whatever the end is: normal, a panic, an interrupt.

use anyhow::{Result, bail};
use nix::fcntl::OFlag;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::pipe2;
use std::io::Write;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};

type Action = Box<dyn FnOnce() + Send>;

/// A stack of actions, run once, last in first out.
pub struct Undo {
    stack: Mutex<Stack>,
}

struct Stack {
    actions: Vec<Action>,
    ended: bool,
}

static ALL: Mutex<Vec<Weak<Undo>>> = Mutex::new(Vec::new());
static WATCH: Once = Once::new();

/// Where the handler writes the number of the signal that it got.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// From now on SIGINT, SIGTERM and SIGHUP undo everything and end the process with 128 + signal.
///
/// A handler, not a blocked signal that a thread waits for: children inherit what is blocked, and would not be told to
/// end any more.
pub fn watch_signals() {
    WATCH.call_once(|| {
        // Without a pipe the signals do what they always do.
        let Ok((read, write)) = pipe2(OFlag::O_CLOEXEC) else { return };
        WAKE.store(write.into_raw_fd(), Ordering::Release);
        std::thread::spawn(move || wait_and_undo(&read));
        let action = SigAction::new(SigHandler::Handler(wake), SaFlags::SA_RESTART, SigSet::empty());
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            // SAFETY: the handler makes one system call that is safe in a handler, on a descriptor that is never closed.
            let _ = unsafe { sigaction(signal, &action) };
        }
    });
}

extern "C" fn wake(signal: libc::c_int) {
    // Signals fit an octet.
    let octet = signal as u8;
    // SAFETY: one octet that lives across the call; write(2) is async-signal-safe.
    unsafe {
        libc::write(WAKE.load(Ordering::Acquire), (&raw const octet).cast(), 1);
    }
}

fn wait_and_undo(pipe: &OwnedFd) {
    let mut signal = [0];
    while !matches!(nix::unistd::read(pipe, &mut signal), Ok(1)) {}
    let [signal] = signal.map(i32::from);
    let name = Signal::try_from(signal).map_or("signal", Signal::as_str);
    // Not `eprintln!`, which panics when the reader of a pipe is gone: the same interrupt may have ended it.
    let _ = writeln!(std::io::stderr(), "\n{name}: removing everything");
    let stacks: Vec<Arc<Undo>> = lock(&ALL).iter().filter_map(Weak::upgrade).collect();
    for undo in stacks.iter().rev() {
        undo.run();
    }
    std::process::exit(128 + signal);
}

impl Undo {
    /// An empty stack that signals know of.
    pub(super) fn new() -> Arc<Self> {
        watch_signals();
        let undo = Arc::new(Self { stack: Mutex::new(Stack { actions: Vec::new(), ended: false }) });
        lock(&ALL).push(Arc::downgrade(&undo));
        undo
    }

    /// Adds an action.
    ///
    /// # Errors
    /// The stack has been run already: so has the action, before this returns.
    pub(super) fn push(&self, action: impl FnOnce() + Send + 'static) -> Result<()> {
        let mut stack = lock(&self.stack);
        if stack.ended {
            drop(stack);
            action();
            bail!("interrupted");
        }
        stack.actions.push(Box::new(action));
        Ok(())
    }

    /// Runs every action, also when another thread is already at it: both return when all are done.
    pub(super) fn run(&self) {
        let mut stack = lock(&self.stack);
        stack.ended = true;
        while let Some(action) = stack.actions.pop() {
            action();
        }
    }
}

/// One action that runs when this goes out of scope, or on a signal.
pub struct Guard {
    undo: Arc<Undo>,
}

impl Guard {
    /// # Errors
    /// A signal came first; `action` has been run.
    pub fn new(action: impl FnOnce() + Send + 'static) -> Result<Self> {
        let undo = Undo::new();
        undo.push(action)?;
        Ok(Self { undo })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.undo.run();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
