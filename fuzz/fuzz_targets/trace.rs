//! Traces of requests: requests that a simulation takes, or a typed error that names the file.
#![no_main]

use autarky_fuzz::bounded;
use autarky_plan::simulate::trace::{TimeUnit, parse_trace};
use libfuzzer_sys::fuzz_target;

const FILE: &str = "trace.csv";

fuzz_target!(|bytes: &[u8]| {
    bounded(|| {
        for unit in [TimeUnit::Seconds, TimeUnit::Milliseconds] {
            match parse_trace(bytes, FILE, unit) {
                Ok(requests) => {
                    assert!(!requests.is_empty());
                    for request in requests {
                        assert!(request.arrival_s.is_finite() && request.arrival_s >= 0.0);
                        assert!(request.input >= 1 && request.output >= 1 && request.prefix <= request.input);
                    }
                }
                Err(e) => assert!(e.to_string().starts_with(FILE), "no file is named: {e}"),
            }
        }
    });
});
