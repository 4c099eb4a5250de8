//! Requests read from a trace: a file of comma-separated values or of JSON lines.
//!
//! Columns and keys are found by name, whatever their case and punctuation, so that published traces can be read as
//! they are: `TIMESTAMP,ContextTokens,GeneratedTokens` (Azure, <https://github.com/Azure/AzurePublicDataset>),
//! `Timestamp,...,Request tokens,Response tokens` (BurstGPT, Wang et al. 2024), and `{"timestamp": ms,
//! "input_length": ..., "output_length": ...}` (Mooncake, Qin et al. 2024; in milliseconds). A file of values without
//! a header has time, input, output and, if it likes, prefix in this order.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};
use thiserror::Error;

use super::load::Request;

/// What numbers in the column of times count. Dates with times of day are what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    #[default]
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// Why a trace cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The fields are named in each variant's message.
pub enum TraceError {
    /// The operating system refused.
    #[error("{file}: cannot be read: {reason}")]
    Read { file: String, reason: String },

    /// A field of a line is missing, or is not what it must be. Lines count from 1.
    #[error("{file}: line {line}: {field}: {reason}")]
    Field { file: String, line: usize, field: &'static str, reason: String },

    /// There is no request in it.
    #[error("{file}: no requests in it; a line has time, input and output")]
    Empty { file: String },
}

/// Bytes of the longest line that is read.
const LONGEST_LINE: u64 = 1 << 20;

/// The fields, and the names that each goes by, in small letters and without punctuation.
const FIELDS: [(&str, &[&str]); 4] = [
    ("timestamp", &["timestamp", "time", "arrival", "arrivals", "arrivaltime"]),
    ("input", &["input", "inputtokens", "inputlength", "contexttokens", "requesttokens", "prompttokens"]),
    ("output", &["output", "outputtokens", "outputlength", "generatedtokens", "responsetokens"]),
    ("prefix", &["prefix", "prefixtokens", "cachedtokens"]),
];

/// Reads a trace. Times start at the earliest, which becomes 0.
///
/// # Errors
///
/// With file, line and field.
pub fn read_trace(path: &Path, unit: TimeUnit) -> Result<Vec<Request>, TraceError> {
    let file = path.display().to_string();
    match File::open(path) {
        Ok(opened) => parse_trace(BufReader::new(opened), &file, unit),
        Err(error) => Err(TraceError::Read { file, reason: error.to_string() }),
    }
}

/// Reads a trace from any bytes; `file` is its name in errors.
///
/// # Errors
///
/// As [`read_trace`].
pub fn parse_trace(mut bytes: impl BufRead, file: &str, unit: TimeUnit) -> Result<Vec<Request>, TraceError> {
    let mut requests = Vec::new();
    let mut columns: Option<[Option<usize>; 4]> = None;
    let mut buffer = Vec::new();
    for line in 1.. {
        let error = |field, reason: String| TraceError::Field { file: file.to_owned(), line, field, reason };
        buffer.clear();
        let read = (&mut bytes).take(LONGEST_LINE + 1).read_until(b'\n', &mut buffer);
        let read = read.map_err(|e| TraceError::Read { file: file.to_owned(), reason: e.to_string() })?;
        if read == 0 {
            break;
        }
        if read as u64 > LONGEST_LINE {
            return Err(error("line", format!("it has more than {LONGEST_LINE} bytes")));
        }
        let Ok(text) = str::from_utf8(&buffer) else {
            return Err(error("line", "it is not UTF-8".to_owned()));
        };
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            continue;
        }
        let values = if text.starts_with('{') {
            let object: Map<String, Value> =
                serde_json::from_str(text).map_err(|e| error("line", format!("it is not JSON: {e}")))?;
            from_object(&object)
        } else {
            let cells: Vec<&str> = text.split(',').map(|cell| cell.trim().trim_matches('"')).collect();
            let columns = match columns {
                Some(columns) => columns,
                None => match header(&cells) {
                    Some(found) => {
                        columns = Some(found);
                        continue;
                    }
                    None => *columns.insert([Some(0), Some(1), Some(2), Some(3)]),
                },
            };
            columns.map(|column| column.and_then(|c| cells.get(c)).map(|cell| (*cell).to_owned()))
        };
        requests.push(request(&values, unit).map_err(|(field, reason)| error(field, reason))?);
    }
    let start = requests.iter().map(|r| r.arrival_s).fold(f64::INFINITY, f64::min);
    for request in &mut requests {
        request.arrival_s -= start;
    }
    if requests.is_empty() { Err(TraceError::Empty { file: file.to_owned() }) } else { Ok(requests) }
}

/// Which field goes by a name.
fn field_of(name: &str) -> Option<usize> {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let plain = plain.to_ascii_lowercase();
    FIELDS.iter().position(|(_, names)| names.contains(&plain.as_str()))
}

/// The column of each field, if the cells are names.
fn header(cells: &[&str]) -> Option<[Option<usize>; 4]> {
    let mut columns = [None; 4];
    for (column, cell) in cells.iter().enumerate() {
        if let Some(place) = field_of(cell).and_then(|field| columns.get_mut(field)) {
            *place = Some(column);
        }
    }
    columns.iter().any(Option::is_some).then_some(columns)
}

fn from_object(object: &Map<String, Value>) -> [Option<String>; 4] {
    let mut values = [const { None }; 4];
    for (key, value) in object {
        if let Some(place) = field_of(key).and_then(|field| values.get_mut(field)) {
            *place = Some(match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
        }
    }
    values
}

/// A request of a line's values, or the field that is wrong and why.
fn request(values: &[Option<String>; 4], unit: TimeUnit) -> Result<Request, (&'static str, String)> {
    let [time, input, output, prefix] = values;
    let needed = |field, value: &Option<String>| value.clone().ok_or((field, "it is missing".to_owned()));
    let tokens = |field, value: &str, least: u32| match value.parse::<u32>() {
        Ok(tokens) if tokens >= least => Ok(tokens),
        _ => Err((field, format!("{value:?} is no number of tokens: a whole number, {least} or more"))),
    };
    let time = needed("timestamp", time)?;
    let number = time.parse::<f64>().ok().filter(|number| number.is_finite());
    let seconds = match (number, unit) {
        (Some(seconds), TimeUnit::Seconds) => Some(seconds),
        (Some(milliseconds), TimeUnit::Milliseconds) => Some(milliseconds / 1000.0),
        (None, _) => date_time(&time),
    };
    let why = || format!("{time:?} is no time: write a number, or YYYY-MM-DD HH:MM:SS");
    // Far beyond any clock, and differences of two such times are still finite.
    let arrival_s = seconds.filter(|s| s.abs() < 1e15).ok_or_else(|| ("timestamp", why()))?;
    let input = tokens("input", &needed("input", input)?, 1)?;
    let output = tokens("output", &needed("output", output)?, 1)?;
    let prefix = prefix.as_deref().map_or(Ok(0), |prefix| tokens("prefix", prefix, 0))?;
    if prefix > input {
        return Err(("prefix", format!("{prefix} tokens are more than the input's {input}")));
    }
    Ok(Request { arrival_s, input, output, prefix })
}

/// Seconds since 1970 of `YYYY-MM-DD HH:MM:SS.fff`, in UTC, with `T` for the space and `Z` or `+00:00` after it.
fn date_time(text: &str) -> Option<f64> {
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00")).unwrap_or(text);
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<u32>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':');
    let hour = time.next()?.parse::<u8>().ok().filter(|hour| *hour < 24)?;
    let minute = time.next()?.parse::<u8>().ok().filter(|minute| *minute < 60)?;
    let second = time.next()?.parse::<f64>().ok().filter(|second| (0.0..61.0).contains(second))?;
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days from a date of the proleptic Gregorian calendar: Hinnant, "chrono-compatible low-level date algorithms".
    let shifted_year = year - u32::from(month <= 2);
    let year_of_era = shifted_year % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = f64::from(shifted_year / 400 * 146_097 + day_of_era) - 719_468.0;
    Some(days * 86_400.0 + f64::from(hour) * 3600.0 + f64::from(minute) * 60.0 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Request>, TraceError> {
        parse_trace(text.as_bytes(), "trace", TimeUnit::Seconds)
    }

    fn plain(requests: &[Request]) -> Vec<(f64, u32, u32, u32)> {
        requests.iter().map(|r| (r.arrival_s, r.input, r.output, r.prefix)).collect()
    }

    #[test]
    fn published_formats_are_read_as_they_are() {
        let azure = "\u{feff}TIMESTAMP,ContextTokens,GeneratedTokens\r\n\
                     2023-11-16 23:59:59.5000000,374,44\r\n2023-11-17 00:00:01.2500000,396,109\r\n";
        assert_eq!(plain(&parse(azure).unwrap()), [(0.0, 374, 44, 0), (1.75, 396, 109, 0)]);
        let burst = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n\
                     5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,230,1317,API log\n";
        assert_eq!(plain(&parse(burst).unwrap()), [(0.0, 472, 18, 0), (40.0, 1087, 230, 0)]);
        let mooncake = "{\"timestamp\": 0, \"input_length\": 6955, \"output_length\": 52, \"hash_ids\": [46, 47]}\n\n\
                        {\"timestamp\": 3052, \"input_length\": 6472, \"output_length\": 26, \"hash_ids\": []}\n";
        let read = parse_trace(mooncake.as_bytes(), "trace", TimeUnit::Milliseconds).unwrap();
        assert_eq!(plain(&read), [(0.0, 6955, 52, 0), (3.052, 6472, 26, 0)]);
        assert_eq!(plain(&parse("1.5,10,20\n0.5,3,4,2").unwrap()), [(1.0, 10, 20, 0), (0.0, 3, 4, 2)]);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date_time("1970-01-01 00:00:00"), Some(0.0));
        assert_eq!(date_time("2000-02-29T12:00:00Z"), Some(951_825_600.0));
        assert_eq!(date_time("2024-05-10 00:00:00.5+00:00"), Some(1_715_299_200.5));
        for wrong in ["2024-13-01 00:00:00", "2024-01-01", "2024-01-01 25:00:00", "2024-01-01 00:00:NaN"] {
            assert_eq!(date_time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn errors_name_file_line_and_field() {
        let cases = [
            ("time,input,output\n0,5,6\n1,x,6", "trace: line 3: input: \"x\" is no number of tokens"),
            ("time,input,output\n0,5,0", "trace: line 2: output: \"0\" is no number of tokens"),
            ("time,input,output\nnoon,5,1", "trace: line 2: timestamp: \"noon\" is no time"),
            ("time,input,output\n0,5", "trace: line 2: output: it is missing"),
            ("time,input,output,prefix\n0,5,1,6", "trace: line 2: prefix: 6 tokens are more"),
            ("{\"time\": 0, \"input\": 5}", "trace: line 1: output: it is missing"),
            ("{\"time\": 0,", "trace: line 1: line: it is not JSON"),
            ("time,input,output\n", "trace: no requests"),
            ("inf,1,1", "trace: line 1: timestamp"),
        ];
        for (text, begins) in cases {
            let said = parse(text).unwrap_err().to_string();
            assert!(said.starts_with(begins), "{text:?}: {said}");
        }
        let missing = read_trace(Path::new("no/such/trace.csv"), TimeUnit::Seconds).unwrap_err().to_string();
        assert!(missing.starts_with("no/such/trace.csv: cannot be read"), "{missing}");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, rows in "(time,input,output\n)?[-0-9.,:eTZ \"{}\n]{0,80}") {
            let _ = parse_trace(bytes.as_slice(), "trace", TimeUnit::Seconds);
            let _ = parse_trace(rows.as_bytes(), "trace", TimeUnit::Milliseconds);
        }
    }
}
