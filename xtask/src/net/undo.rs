//! What is to be undone at the end, whatever the end is: normal, a panic, an interrupt.

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};
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

/// Takes SIGINT, SIGTERM and SIGHUP away from this thread and those it will start, and gives them to one that undoes
/// everything and ends the process with 128 + signal. Call it before other threads exist, or they die of the signal.
pub fn watch_signals() {
    WATCH.call_once(|| {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        if signals.thread_block().is_err() {
            return;
        }
        std::thread::spawn(move || {
            let Ok(signal) = signals.wait() else { return };
            eprintln!("\n{signal}: removing everything");
            let stacks: Vec<Arc<Undo>> = lock(&ALL).iter().filter_map(Weak::upgrade).collect();
            for undo in stacks.iter().rev() {
                undo.run();
            }
            std::process::exit(128 + signal as i32);
        });
    });
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
