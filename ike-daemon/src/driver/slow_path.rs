//! The slow path of the data path, in a thread of its own: it waits for packets, and a negotiation must not wait for it.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use sadb_maps::host::Instance;
use sadb_maps::host::slow::{self, Told};
use tracing::{debug, warn};

/// The thread; it ends with the value.
pub struct SlowPathThread {
    /// Closing it tells the thread to end.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl SlowPathThread {
    /// Starts it. Where another process deals with these packets it waits for that one to end.
    ///
    /// # Errors
    /// No thread or no descriptor is to be had.
    pub fn start(instance: &Instance) -> io::Result<Self> {
        let (stop, told) = UnixStream::pair()?;
        let instance = instance.clone();
        let run = move || {
            slow::serve(&instance, told.as_fd(), |told| match told {
                Told::Serving => debug!(target: "ikev2d::sadb", "taking the packets of the slow path"),
                Told::Waiting => debug!(target: "ikev2d::sadb", "another process takes the packets of the slow path"),
                Told::Failed(error) => {
                    warn!(target: "ikev2d::sadb", %error, "packets of the slow path are dropped, for they cannot be taken");
                }
            });
        };
        let thread = std::thread::Builder::new().name("slow-path".to_owned()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for SlowPathThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing left to say if it panicked; the data path drops what nobody takes.
            let _ = thread.join();
        }
    }
}
