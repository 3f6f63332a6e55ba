//! The asking end: blocking, with one deadline over a whole request.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use zeroize::Zeroizing;

use crate::frame::{self, FrameError, HEADER};
use crate::message::{Envelope, Failure, Item, Outcome, Reply, Request, VERSION};

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    patience: Duration,
}

/// What a request brought.
pub type Answer = Result<Vec<Item>, Failure>;

/// The daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no daemon behind the path.
    #[error("cannot talk to the daemon at {path}: {error}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Something else than a daemon listens there.
    #[error("{path} belongs to user {uid}, not to root or to this user")]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// Whose process it is.
        uid: u32,
    },
    /// The deadline passed.
    #[error("the daemon did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The connection broke.
    #[error("the connection to the daemon broke: {0}")]
    Broken(io::Error),
    /// The daemon speaks otherwise.
    #[error("the daemon's answer cannot be understood: {0}")]
    Frame(#[from] FrameError),
}

impl Client {
    /// Connects. Every request on this connection has to be answered within `patience`.
    ///
    /// # Errors
    /// [`ClientError::Connect`], [`ClientError::Stranger`].
    pub fn connect(path: &Path, patience: Duration) -> Result<Self, ClientError> {
        let failed = |error: io::Error| ClientError::Connect { path: path.to_owned(), error };
        let stream = UnixStream::connect(path).map_err(failed)?;
        let peer = getsockopt(&stream, PeerCredentials).map_err(|errno| failed(errno.into()))?;
        if peer.uid() != 0 && peer.uid() != nix::unistd::geteuid().as_raw() {
            return Err(ClientError::Stranger { path: path.to_owned(), uid: peer.uid() });
        }
        Ok(Self { stream, patience })
    }

    /// Asks, and collects the whole answer.
    ///
    /// # Errors
    /// [`ClientError`] where there is no answer; a refusal is inside the [`Answer`].
    pub fn ask(&mut self, request: Request) -> Result<Answer, ClientError> {
        let mut items = Vec::new();
        let outcome = self.ask_each(request, |item| items.push(item))?;
        Ok(match outcome {
            Outcome::Done => Ok(items),
            Outcome::Failed(failure) => Err(failure),
        })
    }

    /// Asks, and gives every item to `each` as it comes.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn ask_each(&mut self, request: Request, mut each: impl FnMut(Item)) -> Result<Outcome, ClientError> {
        let deadline = Instant::now() + self.patience;
        let frame = frame::encode(&Envelope { version: VERSION, request })?;
        self.stream.set_write_timeout(Some(self.patience)).map_err(ClientError::Broken)?;
        self.stream.write_all(&frame).map_err(|error| self.broken(error))?;
        loop {
            let mut header = [0; HEADER];
            self.read(&mut header, deadline)?;
            let mut text = Zeroizing::new(vec![0; frame::length(header)?]);
            self.read(&mut text, deadline)?;
            match frame::decode(&text)? {
                Reply::Item(item) => each(*item),
                Reply::End(outcome) => return Ok(outcome),
            }
        }
    }

    fn read(&mut self, mut rest: &mut [u8], deadline: Instant) -> Result<(), ClientError> {
        while !rest.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::TimedOut(self.patience));
            }
            self.stream.set_read_timeout(Some(left)).map_err(ClientError::Broken)?;
            match self.stream.read(rest) {
                Ok(0) => return Err(ClientError::Broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => rest = rest.get_mut(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error)),
            }
        }
        Ok(())
    }

    fn broken(&self, error: io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::TimedOut(self.patience),
            _ => ClientError::Broken(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::message::ErrorCode;

    const PATIENCE: Duration = Duration::from_millis(200);

    /// One connection: reads one request, then writes `replies`, then waits for the client to leave.
    fn door(replies: Vec<Vec<u8>>) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("door");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut header = [0; HEADER];
            stream.read_exact(&mut header).unwrap();
            let mut text = vec![0; frame::length(header).unwrap()];
            stream.read_exact(&mut text).unwrap();
            assert_eq!(frame::decode::<Envelope>(&text).unwrap().version, VERSION);
            for reply in replies {
                stream.write_all(&reply).unwrap();
            }
            let _ = stream.read(&mut header);
        });
        (dir, path)
    }

    fn encoded(reply: &Reply) -> Vec<u8> {
        frame::encode(reply).unwrap().to_vec()
    }

    #[test]
    fn items_then_the_end() {
        let (_dir, path) = door(vec![
            encoded(&Reply::Item(Box::new(Item::Count(1)))),
            encoded(&Reply::Item(Box::new(Item::Count(2)))),
            encoded(&Reply::End(Outcome::Done)),
        ]);
        let answer = Client::connect(&path, PATIENCE).unwrap().ask(Request::DumpRule).unwrap();
        assert_eq!(answer, Ok(vec![Item::Count(1), Item::Count(2)]));
    }

    #[test]
    fn a_refusal_is_an_answer() {
        let failure = Failure { code: ErrorCode::Privilege, detail: "no".into() };
        let (_dir, path) = door(vec![encoded(&Reply::End(Outcome::Failed(failure.clone())))]);
        assert_eq!(Client::connect(&path, PATIENCE).unwrap().ask(Request::GetPriv).unwrap(), Err(failure));
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let (_dir, path) = door(Vec::new());
        let error = Client::connect(&path, PATIENCE).unwrap().ask(Request::GetPriv).unwrap_err();
        assert!(matches!(error, ClientError::TimedOut(_)), "{error}");
    }

    #[test]
    fn absurd_lengths_and_nonsense_are_refused() {
        let (_dir, path) = door(vec![vec![0xff; 4]]);
        let error = Client::connect(&path, PATIENCE).unwrap().ask(Request::GetPriv).unwrap_err();
        assert!(matches!(error, ClientError::Frame(FrameError::TooLong(_))), "{error}");
        let (_dir, path) = door(vec![vec![0, 0, 0, 2, b'{', b'}']]);
        let error = Client::connect(&path, PATIENCE).unwrap().ask(Request::GetPriv).unwrap_err();
        assert!(matches!(error, ClientError::Frame(FrameError::Malformed)), "{error}");
    }

    #[test]
    fn no_daemon_is_said_plainly() {
        let error = Client::connect(Path::new("/nonexistent/door"), PATIENCE).unwrap_err();
        assert!(error.to_string().contains("cannot talk to the daemon at /nonexistent/door"));
    }
}
