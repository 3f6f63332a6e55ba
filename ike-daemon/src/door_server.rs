//! The answering end of the door: connections, deadlines, and who may knock.
//!
//! Connections are served by tasks of their own, so a slow client keeps nobody waiting; requests go to the daemon one by
//! one through a bounded queue. Only root and the daemon's own user may speak; the socket's mode says the same.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ike_door::frame::{self, FrameError, HEADER};
use ike_door::{Envelope, ErrorCode, Failure, Item, Outcome, Reply, Request, VERSION};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tracing::debug;
use zeroize::Zeroizing;

/// Connections at a time.
const MAX_CONNECTIONS: usize = 16;

/// Requests waiting for the daemon.
const QUEUE: usize = 16;

/// What every part of an exchange may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Between two requests of one connection.
    pub idle: Duration,
    /// From the first octet of a request to its last, for the daemon to answer, and for the client to take each frame.
    pub step: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { idle: Duration::from_secs(600), step: Duration::from_secs(5) }
    }
}

/// What a request is answered with.
pub type Answer = Result<Vec<Item>, Failure>;

/// A request on its way to the daemon.
#[derive(Debug)]
pub struct Knock {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes. A client that gave up is no error.
    pub answer: oneshot::Sender<Answer>,
}

/// The socket; it is removed when this is dropped.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
    listening: tokio::task::JoinHandle<()>,
}

impl Door {
    /// Listens at `path`, in a directory that only the daemon's user can enter. A socket left over by a daemon that died
    /// is replaced, so the caller must hold the instance's daemon lock.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(path: &Path, deadlines: Deadlines) -> io::Result<(Self, mpsc::Receiver<Knock>)> {
        // Whoever finds it finds it with its mode.
        let fresh = path.with_extension("new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&fresh)?;
        fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
        fs::rename(&fresh, path)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let listening = tokio::spawn(listen(listener, sender, deadlines));
        Ok((Self { path: path.to_owned(), listening }, receiver))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.listening.abort();
        // A client that comes later finds no socket instead of one that nobody listens to.
        let _ = fs::remove_file(&self.path);
    }
}

async fn listen(listener: UnixListener, sender: mpsc::Sender<Knock>, deadlines: Deadlines) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No descriptors left, for example: others may go away meanwhile.
                debug!(target: "ikev2d::door", %error, "accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let sender = sender.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(stream, sender, deadlines).await {
                debug!(target: "ikev2d::door", %error, "a connection ends");
            }
            drop(place);
        });
    }
}

/// Why a connection ended before its client wanted it to.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("a deadline passed")]
    Deadline,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl From<tokio::time::error::Elapsed> for ServeError {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self::Deadline
    }
}

async fn serve(mut stream: UnixStream, sender: mpsc::Sender<Knock>, deadlines: Deadlines) -> Result<(), ServeError> {
    let uid = stream.peer_cred()?.uid();
    if uid != 0 && uid != nix::unistd::geteuid().as_raw() {
        debug!(target: "ikev2d::door", uid, "a stranger is sent away");
        let failure = failure(ErrorCode::Unauthorized, "only root may use the door");
        return end(&mut stream, Outcome::Failed(failure), deadlines).await;
    }
    loop {
        let mut header = [0; HEADER];
        match timeout(deadlines.idle, stream.read_exact(&mut header)).await? {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            result => result?,
        };
        let mut text = Zeroizing::new(vec![0; frame::length(header)?]);
        timeout(deadlines.step, stream.read_exact(&mut text)).await??;
        let request = match understand(&text) {
            Ok(request) => request,
            Err(failure) => {
                end(&mut stream, Outcome::Failed(failure), deadlines).await?;
                continue;
            }
        };
        debug!(target: "ikev2d::door", ?request, "asked");
        let outcome = match ask(&sender, request, deadlines).await {
            Ok(items) => {
                for item in items {
                    put(&mut stream, &Reply::Item(Box::new(item)), deadlines).await?;
                }
                Outcome::Done
            }
            Err(failure) => Outcome::Failed(failure),
        };
        end(&mut stream, outcome, deadlines).await?;
    }
}

/// The request in a frame. The version is read first: another version's requests need not be understood.
fn understand(text: &[u8]) -> Result<Request, Failure> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let malformed = |detail: String| Failure { code: ErrorCode::Malformed, detail };
    let Version { version } = frame::decode(text).map_err(|error| malformed(error.to_string()))?;
    if version != VERSION {
        return Err(malformed(format!(
            "the daemon speaks version {VERSION} of the door protocol, the client {version}"
        )));
    }
    frame::decode::<Envelope>(text)
        .map(|envelope| envelope.request)
        .map_err(|_| failure(ErrorCode::UnknownCommand, "this daemon does not know the request"))
}

async fn ask(sender: &mpsc::Sender<Knock>, request: Request, deadlines: Deadlines) -> Answer {
    let busy = || failure(ErrorCode::InProgress, "the daemon is busy; try again");
    let (answer, answered) = oneshot::channel();
    match timeout(deadlines.step, sender.send(Knock { request, answer })).await {
        Err(_) => return Err(busy()),
        Ok(Err(_)) => return Err(failure(ErrorCode::InvalidCommand, "the daemon is about to end")),
        Ok(Ok(())) => {}
    }
    match timeout(deadlines.step, answered).await {
        Err(_) => Err(busy()),
        Ok(Err(_)) => Err(failure(ErrorCode::InvalidCommand, "the daemon is about to end")),
        Ok(Ok(answer)) => answer,
    }
}

fn failure(code: ErrorCode, detail: &str) -> Failure {
    Failure { code, detail: detail.to_owned() }
}

async fn end(stream: &mut UnixStream, outcome: Outcome, deadlines: Deadlines) -> Result<(), ServeError> {
    put(stream, &Reply::End(outcome), deadlines).await
}

async fn put(stream: &mut UnixStream, reply: &Reply, deadlines: Deadlines) -> Result<(), ServeError> {
    let frame = frame::encode(reply)?;
    timeout(deadlines.step, stream.write_all(&frame)).await??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use ike_door::{Client, ClientError, Privilege};

    use super::*;

    const SHORT: Deadlines = Deadlines { idle: Duration::from_millis(200), step: Duration::from_millis(100) };

    fn door(deadlines: Deadlines) -> (tempfile::TempDir, PathBuf, Door, mpsc::Receiver<Knock>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("door");
        let (door, receiver) = Door::open(&path, deadlines).unwrap();
        (dir, path, door, receiver)
    }

    /// Runs the blocking client beside the server.
    async fn client<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    fn asked(path: &Path, request: Request) -> Result<ike_door::Answer, ClientError> {
        Client::connect(path, Duration::from_secs(5)).unwrap().ask(request)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn answers_and_refusals_reach_the_client() {
        let (_dir, path, _door, mut knocks) = door(Deadlines::default());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        tokio::spawn(async move {
            while let Some(knock) = knocks.recv().await {
                let answer = match knock.request {
                    Request::GetPriv => Ok(vec![Item::Priv { old: None, level: Privilege::Base }, Item::Count(1)]),
                    _ => Err(failure(ErrorCode::NoData, "nothing")),
                };
                knock.answer.send(answer).unwrap();
            }
        });
        let answers = client(move || {
            let mut client = Client::connect(&path, Duration::from_secs(5)).unwrap();
            [client.ask(Request::GetPriv).unwrap(), client.ask(Request::DumpRule).unwrap()]
        })
        .await;
        assert_eq!(answers[0].as_ref().unwrap().len(), 2);
        assert_eq!(answers[1].as_ref().unwrap_err().code, ErrorCode::NoData);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_daemon_that_does_not_answer_is_busy() {
        let (_dir, path, _door, _knocks) = door(SHORT);
        let answer = client(move || asked(&path, Request::GetStats)).await.unwrap();
        assert_eq!(answer.unwrap_err().code, ErrorCode::InProgress);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn other_versions_and_unknown_requests_are_told_so() {
        let (_dir, path, _door, _knocks) = door(SHORT);
        let talk = |text: &'static str| {
            let path = path.clone();
            client(move || {
                use std::io::{Read, Write};
                let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
                stream.write_all(&u32::try_from(text.len()).unwrap().to_be_bytes()).unwrap();
                stream.write_all(text.as_bytes()).unwrap();
                let mut header = [0; HEADER];
                stream.read_exact(&mut header).unwrap();
                let mut text = vec![0; frame::length(header).unwrap()];
                stream.read_exact(&mut text).unwrap();
                match frame::decode::<Reply>(&text).unwrap() {
                    Reply::End(Outcome::Failed(failure)) => failure,
                    other => panic!("{other:?}"),
                }
            })
        };
        assert_eq!(talk(r#"{"version":99,"request":{"do":"get-priv"}}"#).await.code, ErrorCode::Malformed);
        assert_eq!(talk(r#"{"version":1,"request":{"do":"make-tea"}}"#).await.code, ErrorCode::UnknownCommand);
        assert_eq!(talk("nonsense").await.code, ErrorCode::Malformed);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn silent_and_absurd_clients_are_cut_off() {
        let (_dir, path, _door, _knocks) = door(SHORT);
        for first in [&[][..], &[0, 0, 0, 9, b'{'], &[0xff; 4]] {
            let path = path.clone();
            let read = client(move || {
                use std::io::{Read, Write};
                let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
                stream.write_all(first).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                stream.read(&mut [0; 64]).unwrap()
            })
            .await;
            assert_eq!(read, 0, "closed after {first:?}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_socket_left_over_is_replaced_and_ours_goes_with_us() {
        let (_dir, path, first, _knocks) = door(SHORT);
        let (second, _receiver) = Door::open(&path, SHORT).unwrap();
        drop(first);
        drop(second);
        assert!(!path.exists());
    }
}
