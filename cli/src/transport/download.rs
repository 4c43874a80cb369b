//! A blob fetched from a node's public door: one `GET /blobs/<hex>` over plain HTTP.
//!
//! Blobs are public to whoever can name them, and their digest proves them, so neither a key nor
//! encryption is of use here.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use borgios_policy::Blob;

use crate::failure::{Failure, OrFail as _};

/// How long connecting may take, and each read.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Longest head of an answer, in bytes.
const HEAD_MAX: u64 = 16 * 1024;

/// The bytes of `blob` from the node at `address`; none if it does not have it.
pub(super) fn blob(address: &str, blob: &Blob) -> Result<Option<Vec<u8>>, Failure> {
    let what = || format!("could not fetch the blob {} from {address}", blob.digest.short());
    let to = address.to_socket_addrs().or_fail(what)?.next();
    let to = to.ok_or_else(|| Failure::new(what()).because("its name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&to, TIMEOUT).or_fail(what)?;
    stream.set_read_timeout(Some(TIMEOUT)).or_fail(what)?;
    stream.set_write_timeout(Some(TIMEOUT)).or_fail(what)?;
    let request = format!(
        "GET /blobs/{} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n",
        blob.digest.hex()
    );
    stream.write_all(request.as_bytes()).or_fail(what)?;
    let mut answer = Vec::new();
    stream.take(blob.size.saturating_add(HEAD_MAX)).read_to_end(&mut answer).or_fail(what)?;
    body(answer, blob.size).map_err(|why| Failure::new(what()).because(why))
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
    use super::*;

    #[test]
    fn a_blob_is_asked_for_by_its_digest() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let wanted = Blob { digest: borgios_types::Digest::of(b"abc"), size: 3 };
        let answering = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", "nonsense"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 512];
                let read = stream.read(&mut head).unwrap();
                asked.push(String::from_utf8_lossy(&head[..read]).into_owned());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        assert_eq!(blob(&address, &wanted).unwrap(), Some(b"abc".to_vec()));
        assert!(blob(&address, &wanted).is_err());
        let asked = answering.join().unwrap();
        assert!(asked[0].starts_with(&format!("GET /blobs/{} HTTP/1.1\r\n", wanted.digest.hex())));
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
}
