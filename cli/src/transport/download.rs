//! Blobs fetched from a node's public door: one `GET /blobs/<hex>` over plain HTTP for each.
//!
//! Blobs are public to whoever can name them, and their digest proves them, so neither a key nor
//! encryption is of use here.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use borgios_policy::Blob;
use borgios_types::Digest;

use super::patience::RATE_MIN;
use crate::failure::Failure;

/// How long connecting may take, and each read.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Longest head of an answer, in bytes.
const HEAD_MAX: u64 = 16 * 1024;

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

/// Why no blob came.
#[derive(Debug)]
enum Miss {
    /// The node gives other bytes, or too slowly: it would do so with the next one.
    Node(Failure),
    /// Anything else. Also an answer of another length: whoever named the blob may have named a wrong one,
    /// and must not make honest nodes look like liars.
    Blob(Failure),
}

/// The blobs of one node, for as long as it gives what it is asked for.
#[derive(Debug)]
pub(super) struct Blobs {
    address: String,
    given_up: bool,
}

impl Blobs {
    /// Those of the node at `address`.
    pub(super) fn of(address: &str) -> Self {
        Self { address: address.to_owned(), given_up: false }
    }

    /// The bytes of `blob`; none if the node does not have it, or was given up in this run.
    ///
    /// # Errors
    /// It breaks off, is too slow, or gives something else.
    pub(super) fn get(&mut self, blob: &Blob, until: Instant) -> Result<Option<Vec<u8>>, Failure> {
        if self.given_up {
            return Ok(None);
        }
        fetch(&self.address, blob, until).map_err(|miss| match miss {
            Miss::Blob(failure) => failure,
            Miss::Node(failure) => {
                self.given_up = true;
                failure.because(
                    "this run asks it for no further blob; name another node with `--node HOST:PORT`, or \
                     run this again",
                )
            }
        })
    }
}

fn fetch(address: &str, blob: &Blob, until: Instant) -> Result<Option<Vec<u8>>, Miss> {
    let what = || format!("could not fetch the blob {} from {address}", blob.digest.short());
    let broken = |error: std::io::Error| Miss::Blob(Failure::new(what()).cause(error));
    let to = address.to_socket_addrs().map_err(broken)?.next();
    let none = || Miss::Blob(Failure::new(what()).because("its name has no address"));
    let mut stream = TcpStream::connect_timeout(&to.ok_or_else(none)?, TIMEOUT).map_err(broken)?;
    stream.set_write_timeout(Some(TIMEOUT)).map_err(broken)?;
    let request = format!(
        "GET /blobs/{} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n",
        blob.digest.hex()
    );
    stream.write_all(request.as_bytes()).map_err(broken)?;
    let max = usize::try_from(blob.size.saturating_add(HEAD_MAX)).unwrap_or(usize::MAX);
    let (answer, ended) = read(&mut stream, max, until).map_err(broken)?;
    if !ended {
        return Err(Miss::Node(Failure::new(what()).because(format!(
            "{} of {} bytes came in the time it had, {} KiB a second and a minute more",
            answer.len(),
            blob.size,
            RATE_MIN / 1024
        ))));
    }
    let bytes = body(answer, blob.size);
    let bytes = bytes.map_err(|why| Miss::Blob(Failure::new(what()).because(why)))?;
    match bytes {
        Some(bytes) if Digest::of(&bytes) != blob.digest => {
            Err(Miss::Node(Failure::new(what()).because("it gives other bytes under that name")))
        }
        bytes => Ok(bytes),
    }
}

/// Reads no more than `max` bytes; and whether it got there or to the end before it was too late.
fn read(stream: &mut TcpStream, max: usize, until: Instant) -> std::io::Result<(Vec<u8>, bool)> {
    let (mut answer, mut chunk) = (Vec::new(), vec![0; CHUNK]);
    while answer.len() < max {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok((answer, false));
        }
        stream.set_read_timeout(Some(left.min(TIMEOUT)))?;
        let room = CHUNK.min(max - answer.len());
        match stream.read(&mut chunk[..room]) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&chunk[..read]),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock | ErrorKind::TimedOut => return Ok((answer, false)),
                _ => return Err(error),
            },
        }
    }
    Ok((answer, true))
}

/// The body of a whole answer; none where the node says that it has no such blob.
fn body(mut answer: Vec<u8>, size: u64) -> Result<Option<Vec<u8>>, String> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.ok_or("the answer breaks off in its head")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    match status {
        "200" => {}
        "404" => return Ok(None),
        other => return Err(format!("it answers {other:?}")),
    }
    answer.drain(..end + 4);
    if answer.len() as u64 != size {
        return Err(format!("{} bytes came, expected {size}", answer.len()));
    }
    Ok(Some(answer))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    /// A node that gives these answers, one a connection; what it was asked comes at its end.
    fn node(answers: Vec<&'static str>) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answering = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 512];
                let read = stream.read(&mut head).unwrap();
                asked.push(String::from_utf8_lossy(&head[..read]).into_owned());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        (address, answering)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn wanted() -> Blob {
        Blob { digest: Digest::of(b"abc"), size: 3 }
    }

    const RIGHT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";

    #[test]
    fn a_blob_is_asked_for_by_its_digest() {
        let (address, answering) = node(vec![RIGHT, "nonsense", RIGHT]);
        let mut blobs = Blobs::of(&address);
        assert_eq!(blobs.get(&wanted(), later()).unwrap(), Some(b"abc".to_vec()));
        assert!(blobs.get(&wanted(), later()).is_err());
        assert_eq!(blobs.get(&wanted(), later()).unwrap(), Some(b"abc".to_vec()));
        let asked = answering.join().unwrap();
        let request = format!("GET /blobs/{} HTTP/1.1\r\n", wanted().digest.hex());
        assert!(asked.iter().all(|asked| asked.starts_with(&request)), "{asked:?}");
    }

    #[test]
    fn only_whole_answers_are_taken() {
        let ok = |text: &str, size| body(text.as_bytes().to_vec(), size);
        assert_eq!(ok("HTTP/1.1 200 OK\r\n\r\nabc", 3), Ok(Some(b"abc".to_vec())));
        assert_eq!(ok("HTTP/1.1 404 Not Found\r\n\r\n", 3), Ok(None));
        for bad in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n\r\nab", "x 500 y\r\n\r\nabc"] {
            assert!(ok(bad, 3).is_err(), "{bad:?}");
        }
    }

    /// It would have sent other bytes for the next blob too, and again in every run.
    #[test]
    fn a_node_that_gives_other_bytes_is_asked_once() {
        let (address, answering) = node(vec!["HTTP/1.1 200 OK\r\n\r\nabd"]);
        let mut blobs = Blobs::of(&address);
        let said = blobs.get(&wanted(), later()).unwrap_err().summary();
        assert!(said.contains("other bytes") && said.contains("--node"), "{said}");
        answering.join().unwrap();
        // Nobody listens there any more: asking would fail.
        assert_eq!(blobs.get(&wanted(), later()).unwrap(), None);
    }

    /// A proposal may name a true blob with a wrong size.
    #[test]
    fn a_wrong_size_in_a_proposal_makes_no_node_a_liar() {
        let (address, answering) = node(vec![RIGHT, RIGHT, RIGHT]);
        let mut blobs = Blobs::of(&address);
        for size in [2, 4] {
            let said = blobs.get(&Blob { size, ..wanted() }, later()).unwrap_err().summary();
            assert!(said.contains(&format!("3 bytes came, expected {size}")), "{said}");
        }
        assert_eq!(blobs.get(&wanted(), later()).unwrap(), Some(b"abc".to_vec()));
        answering.join().unwrap();
    }

    /// One byte just in time, again and again, resets the time for a read; it does not move the end.
    #[test]
    fn a_node_that_drips_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let dripping = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut sent = 0;
            while sent < 1_000 && stream.write_all(b"x").is_ok() {
                sent += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            sent
        });
        let mut blobs = Blobs::of(&address);
        let large = Blob { size: 1_000_000, ..wanted() };
        let until = Instant::now() + Duration::from_millis(100);
        let said = blobs.get(&large, until).unwrap_err().summary();
        assert!(said.contains("of 1000000 bytes came in the time it had"), "{said}");
        assert!(dripping.join().unwrap() < 1_000);
        assert_eq!(blobs.get(&large, later()).unwrap(), None);
    }
}
