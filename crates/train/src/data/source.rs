//! The bytes of a file, decompressed as a stream and taken line by line.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

use super::find::Compression;
use super::problem::{At, Fault};

/// Bytes that are asked of the system at once.
const BUFFER: usize = 256 << 10;

/// The largest window of a Zstandard frame: what `zstd` itself reads without being told to.
const LARGEST_WINDOW: u64 = 128 << 20;

/// A file's text as lines and pieces of lines. A byte-order mark of UTF-8 is passed over.
pub(super) struct Lines {
    input: Box<dyn BufRead + Send>,
    compression: Compression,
    started: bool,
    /// The line that the next byte belongs to, counted from 1.
    line: u64,
    /// Bytes before the next one, the byte-order mark included.
    offset: u64,
}

impl Lines {
    pub(super) fn new(bytes: Box<dyn Read + Send>, compression: Compression) -> Lines {
        let bytes = BufReader::with_capacity(BUFFER, bytes);
        let input: Box<dyn BufRead + Send> = match compression {
            Compression::None => Box::new(bytes),
            Compression::Gzip => Box::new(BufReader::with_capacity(BUFFER, Gzip::Fresh(bytes))),
            Compression::Zstd => Box::new(BufReader::with_capacity(BUFFER, Zstd::new(bytes))),
        };
        Lines { input, compression, started: false, line: 1, offset: 0 }
    }

    /// The place of the next byte.
    pub(super) fn at(&self) -> At {
        At::Line(self.line)
    }

    /// How many bytes are before the next one.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends bytes up to the end of the line, its newline included, or `limit` bytes of it. Returns how many; none are
    /// left if it is 0. On an error `into` has what came before.
    pub(super) fn read(&mut self, into: &mut Vec<u8>, limit: usize) -> Result<usize, Fault> {
        self.start()?;
        let before = into.len();
        let result = (&mut self.input).take(limit as u64).read_until(b'\n', into);
        let count = into.len().saturating_sub(before);
        self.offset += count as u64;
        match result {
            Ok(_) => {
                self.line += u64::from(count > 0 && into.last() == Some(&b'\n'));
                Ok(count)
            }
            Err(e) => Err(self.fault(&e)),
        }
    }

    /// Passes over the rest of the line.
    pub(super) fn skip_line(&mut self) -> Result<(), Fault> {
        let count = self.input.skip_until(b'\n').map_err(|e| self.fault(&e))?;
        self.offset += count as u64;
        self.line += 1;
        Ok(())
    }

    /// Bytes that are there, or none at the end of the file.
    pub(super) fn peek(&mut self) -> Result<&[u8], Fault> {
        self.start()?;
        let compression = self.compression;
        loop {
            match self.input.fill_buf() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(fault(&e, compression)),
                Ok(_) => break,
            }
        }
        // Asked again because a borrow cannot leave the loop above; there are bytes, so nothing is read.
        self.input.fill_buf().map_err(|e| fault(&e, compression))
    }

    /// Takes `count` of the bytes that [`peek`](Lines::peek) gave, with `newlines` among them.
    pub(super) fn consume(&mut self, count: usize, newlines: u64) {
        self.input.consume(count);
        self.offset += count as u64;
        self.line += newlines;
    }

    /// Looks at the first bytes for a byte-order mark.
    fn start(&mut self) -> Result<(), Fault> {
        if self.started {
            return Ok(());
        }
        self.started = true;
        let mut head = Vec::new();
        (&mut self.input).take(3).read_to_end(&mut head).map_err(|e| self.fault(&e))?;
        match head.as_slice() {
            [0xEF, 0xBB, 0xBF] => self.offset = 3,
            [0xFE, 0xFF, ..] | [0xFF, 0xFE, ..] => return Err(Fault::Utf16),
            _ => {
                let rest = std::mem::replace(&mut self.input, Box::new(io::empty()));
                self.input = Box::new(Cursor::new(head).chain(rest));
            }
        }
        Ok(())
    }

    fn fault(&self, e: &io::Error) -> Fault {
        fault(e, self.compression)
    }
}

/// An error of the system has a number; all others come from a decompressor.
fn fault(e: &io::Error, compression: Compression) -> Fault {
    if e.raw_os_error().is_some() || compression == Compression::None {
        return Fault::Io { reason: e.to_string() };
    }
    let reason = match e.kind() {
        io::ErrorKind::UnexpectedEof => "the file ends too soon".to_owned(),
        _ => e.to_string(),
    };
    Fault::Corrupt { compression, reason }
}

/// The members of a gzip file, one after another.
enum Gzip<R> {
    /// The decoder reads a header as soon as it is made, and no byte was asked for yet.
    Fresh(R),
    Begun(MultiGzDecoder<R>),
    /// A file of no bytes: it is empty and not corrupt.
    Empty,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Gzip::Fresh(source) = self
            && !source.fill_buf()?.is_empty()
            && let Gzip::Fresh(source) = std::mem::replace(self, Gzip::Empty)
        {
            *self = Gzip::Begun(MultiGzDecoder::new(source));
        }
        match self {
            Gzip::Begun(decoder) => decoder.read(into),
            Gzip::Fresh(_) | Gzip::Empty => Ok(0),
        }
    }
}

/// The frames of a Zstandard file, one after another.
pub(super) struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    /// A frame has begun whose end was not reached.
    inside: bool,
}

impl<R: BufRead> Zstd<R> {
    pub(super) fn new(source: R) -> Zstd<R> {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(LARGEST_WINDOW);
        Zstd { source, decoder, inside: false }
    }

    /// Begins the next frame that has content. `false`: there is none.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if io::copy(&mut (&mut self.source).take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(FrameDecoderError::WindowSizeTooBig { requested, .. }) => {
                    return Err(invalid(format!(
                        "it needs a window of {requested} bytes, and at most {LARGEST_WINDOW} are given; compress it \
                         with zstd --long=27 or less"
                    )));
                }
                Err(FrameDecoderError::DictNotProvided { .. }) => {
                    return Err(invalid("it needs a dictionary; compress it without one".to_owned()));
                }
                Err(e) => return Err(self.broken(e)),
            }
        }
    }

    /// A file that has no further byte has been cut short, whatever the decoder makes of it.
    fn broken(&mut self, e: FrameDecoderError) -> io::Error {
        match self.source.fill_buf() {
            Ok([]) => io::ErrorKind::UnexpectedEof.into(),
            Err(e) => e,
            Ok(_) => invalid(e.to_string()),
        }
    }

    fn check_sum(&self) -> io::Result<()> {
        let stated = self.decoder.get_checksum_from_data();
        if stated.is_some() && stated != self.decoder.get_calculated_checksum() {
            return Err(invalid("the checksum of a frame is wrong".to_owned()));
        }
        Ok(())
    }
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy::UptoBytes;
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.inside {
                if !self.begin()? {
                    return Ok(0);
                }
                self.inside = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                if let Err(e) = self.decoder.decode_blocks(&mut self.source, UptoBytes(BUFFER)) {
                    return Err(self.broken(e));
                }
            }
            match self.decoder.read(into)? {
                0 => {
                    self.check_sum()?;
                    self.inside = false;
                }
                count => return Ok(count),
            }
        }
    }
}
