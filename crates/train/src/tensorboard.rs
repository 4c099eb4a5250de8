//! Metrics as TensorBoard reads them: a file of events, each a protocol buffer in a record with checksums (TFRecord:
//! tensorflow.org/tutorials/load_data/tfrecord; `event.proto` and `summary.proto` of TensorBoard).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;

use crate::metrics::Metric;

/// A file of events, open at its end.
#[derive(Debug)]
pub(crate) struct Events(File);

impl Events {
    /// Writes the file anew with these metrics.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn create(path: &Path, metrics: &[Metric]) -> io::Result<Events> {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("")))?;
        let mut bytes = record(&[double(1, now()), text(3, "brain.Event:2")].concat());
        metrics.iter().for_each(|m| bytes.extend(event(m)));
        crate::files::write(path, &bytes)?;
        Ok(Events(OpenOptions::new().append(true).open(path)?))
    }

    /// Adds a metric's numbers.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(crate) fn add(&mut self, metric: &Metric) -> io::Result<()> {
        self.0.write_all(&event(metric))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// The record of a metric: each of its numbers under `KIND/NAME`. None for one without numbers.
fn event(metric: &Metric) -> Vec<u8> {
    let Ok(Json::Object(fields)) = serde_json::to_value(metric) else { return Vec::new() };
    let kind = fields.get("kind").and_then(Json::as_str).unwrap_or_default();
    let held_out = fields.get("held_out").and_then(Json::as_bool).unwrap_or(false);
    let kind = if held_out { format!("{kind}-held-out") } else { kind.to_owned() };
    let scalars: Vec<u8> = fields
        .iter()
        .filter(|(name, _)| *name != "step")
        .filter_map(|(name, value)| Some((name, value.as_f64()?)))
        .flat_map(|(name, value)| {
            let tag = text(1, &format!("{kind}/{name}"));
            bytes(1, &[tag, float(2, value as f32)].concat())
        })
        .collect();
    match scalars.is_empty() {
        true => Vec::new(),
        false => record(&[double(1, now()), number(2, metric.step()), bytes(5, &scalars)].concat()),
    }
}

/// Length, its checksum, the bytes, and theirs.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), data, &masked(data)].concat()
}

/// A CRC-32C, turned and shifted: it may stand among the bytes of which it is.
fn masked(data: &[u8]) -> [u8; 4] {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// CRC-32 of Castagnoli's polynomial (RFC 3720, appendix B.4), bit by bit: events are short.
fn crc32c(data: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

// Fields of protocol buffers: a key, which is the field's number and how it is written, and the value.

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn double(field: u64, value: f64) -> Vec<u8> {
    [varint(field << 3 | 1), value.to_le_bytes().to_vec()].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [&varint(field << 3 | 2), &varint(value.len() as u64), value].concat()
}

fn text(field: u64, value: &str) -> Vec<u8> {
    bytes(field, value.as_bytes())
}

fn float(field: u64, value: f32) -> Vec<u8> {
    [varint(field << 3 | 5), value.to_le_bytes().to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_specification() {
        // RFC 3720, appendix B.4, and the usual check value.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    /// The version's record is the same in every file that TensorFlow writes, but for the time.
    #[test]
    fn records_are_those_of_tensorboard() {
        let data = [double(1, 0.0), text(3, "brain.Event:2")].concat();
        assert_eq!(data, b"\x09\0\0\0\0\0\0\0\0\x1a\x0dbrain.Event:2");
        let record = record(&data);
        // What its writer puts before these 24 bytes.
        assert_eq!(record[..12], [0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
    }

    #[test]
    fn a_step_has_its_numbers_under_their_names() {
        let metric = Metric::Evaluation { step: 300, loss: 1.5, bits_per_byte: 0.5, tokens: 7 };
        let event = event(&metric);
        let found = |what: &[u8]| event.windows(what.len()).any(|w| w == what);
        assert!(found(b"\x10\xac\x02"));
        assert!(found(b"\x0a\x0fevaluation/loss\x15\0\0\xc0\x3f"));
        let sample = Metric::Sample { step: 1, prompt: "a".to_owned(), text: "b".to_owned() };
        assert!(super::event(&sample).is_empty());
    }
}
