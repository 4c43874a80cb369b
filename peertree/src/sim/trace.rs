//! A digest of all that happened in a run.

/// A digest of all that happened in a run, and on demand its text.
///
/// FNV-1a over 64 bits: it tells two runs apart, it does not withstand anyone.
pub struct Trace {
    digest: u64,
    events: u64,
    sink: Option<Sink>,
}

/// Takes each line of a trace.
pub type Sink = Box<dyn FnMut(&str)>;

impl Trace {
    /// An empty trace; `sink` gets one line per event.
    #[must_use]
    pub fn new(sink: Option<Sink>) -> Self {
        Self { digest: 0xcbf2_9ce4_8422_2325, events: 0, sink }
    }

    /// Adds an event: its name, its numbers, and words that are made only if someone reads them.
    pub fn add(&mut self, name: &str, numbers: &[u64], words: impl FnOnce() -> String) {
        self.events += 1;
        let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
        for byte in name.bytes().chain(numbers) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(sink) = &mut self.sink {
            sink(&words());
        }
    }

    /// The digest so far.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }
}
