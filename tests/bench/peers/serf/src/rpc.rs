//! As much of Serf's RPC as a benchmark needs: say an event, hear events.
//!
//! MessagePack values one after another, a header and most times a body
//! (<https://github.com/hashicorp/serf/blob/master/docs/agent/rpc.html.markdown>).

use std::io::{BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use rmpv::Value;

use crate::Failed;

/// How long an agent may take until it serves its RPC.
const STARTING: Duration = Duration::from_secs(20);
/// The version of the RPC that is spoken.
const VERSION: u64 = 1;

/// A connection to the RPC of one agent.
pub(crate) struct Rpc {
    reading: BufReader<TcpStream>,
    writing: TcpStream,
    seq: u64,
}

impl Rpc {
    /// Connects as soon as the agent listens, and greets it.
    pub(crate) fn connect(port: u16) -> Result<Self, Failed> {
        let begun = Instant::now();
        let stream = loop {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                Ok(stream) => break stream,
                Err(error) if begun.elapsed() > STARTING => return Err(error.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        stream.set_nodelay(true)?;
        let reading = BufReader::with_capacity(65_536, stream.try_clone()?);
        let mut rpc = Self { reading, writing: stream, seq: 0 };
        rpc.ask("handshake", vec![("Version".into(), VERSION.into())])?;
        rpc.accepted()?;
        Ok(rpc)
    }

    /// Sends a request. Its answer has no body for those used here.
    pub(crate) fn ask(&mut self, command: &str, body: Vec<(Value, Value)>) -> Result<(), Failed> {
        let header = vec![("Command".into(), command.into()), ("Seq".into(), self.seq.into())];
        self.seq += 1;
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &Value::Map(header))?;
        rmpv::encode::write_value(&mut bytes, &Value::Map(body))?;
        Ok(self.writing.write_all(&bytes)?)
    }

    /// Reads the header of an answer that has no body.
    pub(crate) fn accepted(&mut self) -> Result<(), Failed> {
        let header = rmpv::decode::read_value(&mut self.reading)?;
        match field(&header, "Error").and_then(Value::as_str) {
            Some("") => Ok(()),
            other => Err(format!("serf refuses: {}", other.unwrap_or("no answer")).into()),
        }
    }

    /// The payload of the next event of the stream that was asked for.
    pub(crate) fn event(&mut self) -> Result<Vec<u8>, Failed> {
        rmpv::decode::read_value(&mut self.reading)?;
        let body = rmpv::decode::read_value(&mut self.reading)?;
        let payload = field(&body, "Payload").ok_or("an event without a payload")?;
        // Go's codec writes bytes as a string, which need not be text.
        let bytes = match payload {
            Value::Binary(bytes) => bytes.as_slice(),
            Value::String(text) => text.as_bytes(),
            _ => return Err("a payload that is no bytes".into()),
        };
        Ok(bytes.to_vec())
    }
}

fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    let fields = map.as_map()?;
    fields.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
}
