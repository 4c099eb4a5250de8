//! How a model's makers would have its tokens drawn.

use autarky_format::gguf::{Metadata, Value};
use serde_json::{Map, Value as Json};

/// How a model's makers would have its tokens drawn, as far as its files say: `generation_config.json` of a Hugging Face
/// folder, or `general.sampling.*` of a GGUF file, as llama.cpp writes and reads it. A number that cannot be meant is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SamplingHints {
    /// Divides the logits; 0 always takes the best token.
    pub temperature: Option<f32>,
    /// The best tokens that are kept; 0 keeps all.
    pub top_k: Option<usize>,
    /// The probability mass that the best tokens are kept up to.
    pub top_p: Option<f32>,
    /// How many times as probable as the best a token must be.
    pub min_p: Option<f32>,
    /// Makes recent tokens less probable; 1 does nothing.
    pub repetition_penalty: Option<f32>,
}

/// What the files call them: Hugging Face, and GGUF behind `general.sampling.`.
const NAMES: [[&str; 2]; 5] = [
    ["temperature", "temp"],
    ["top_k", "top_k"],
    ["top_p", "top_p"],
    ["min_p", "min_p"],
    ["repetition_penalty", "penalty_repeat"],
];

impl SamplingHints {
    /// The numbers in the order of [`NAMES`], if they can be meant.
    fn of(numbers: [Option<f64>; 5]) -> SamplingHints {
        let [temperature, top_k, top_p, min_p, penalty] = numbers;
        let within = |x: Option<f64>, least: f64, most: f64| {
            x.filter(|x| (least..=most).contains(x)).map(|x| x as f32)
        };
        SamplingHints {
            temperature: within(temperature, 0.0, 100.0),
            // Some write -1 for all.
            top_k: top_k.filter(|&k| (-1.0..=f64::from(u32::MAX)).contains(&k)).map(|k| k.max(0.0) as usize),
            top_p: within(top_p, 0.01, 1.0),
            min_p: within(min_p, 0.0, 1.0),
            repetition_penalty: within(penalty, 0.01, 10.0),
        }
    }

    fn numbers(&self) -> [Option<f64>; 5] {
        let wide = |x: Option<f32>| x.map(f64::from);
        [
            wide(self.temperature),
            self.top_k.map(|k| k as f64),
            wide(self.top_p),
            wide(self.min_p),
            wide(self.repetition_penalty),
        ]
    }

    pub(crate) fn from_gguf(metadata: &Metadata) -> SamplingHints {
        SamplingHints::of(NAMES.map(|[_, name]| match metadata.get(&key(name))? {
            Value::F32(x) => Some(f64::from(*x)),
            Value::F64(x) => Some(*x),
            Value::U32(k) => Some(f64::from(*k)),
            Value::I32(k) => Some(f64::from(*k)),
            _ => None,
        }))
    }

    pub(crate) fn to_gguf(self, metadata: &mut Metadata) {
        for ([_, name], number) in NAMES.into_iter().zip(self.numbers()) {
            match number {
                Some(k) if name == "top_k" => metadata.insert(&key(name), k as i32),
                Some(x) => metadata.insert(&key(name), x as f32),
                None => continue,
            };
        }
    }

    pub(crate) fn from_json(generation: &Json) -> SamplingHints {
        SamplingHints::of(NAMES.map(|[name, _]| generation.get(name)?.as_f64()))
    }

    pub(crate) fn to_json(self, generation: &mut Map<String, Json>) {
        for ([name, _], number) in NAMES.into_iter().zip(self.numbers()) {
            match number {
                Some(k) if name == "top_k" => generation.insert(name.into(), (k as u64).into()),
                // As it was written: 0.6, not 0.6000000238.
                Some(x) => generation.insert(name.into(), format!("{}", x as f32).parse::<f64>().ok().into()),
                None => continue,
            };
        }
    }
}

fn key(name: &str) -> String {
    format!("general.sampling.{name}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_say_what_was_read_and_nothing_that_cannot_be_meant() {
        let written = json!({ "temperature": 0.6, "top_k": 20, "top_p": 0.95, "do_sample": true });
        let hints = SamplingHints::from_json(&written);
        let expected = SamplingHints {
            temperature: Some(0.6),
            top_k: Some(20),
            top_p: Some(0.95),
            ..SamplingHints::default()
        };
        assert_eq!(hints, expected);
        let mut json = Map::new();
        hints.to_json(&mut json);
        assert_eq!(Json::from(json), json!({ "temperature": 0.6, "top_k": 20, "top_p": 0.95 }));
        let mut metadata = Metadata::default();
        hints.to_gguf(&mut metadata);
        assert_eq!(SamplingHints::from_gguf(&metadata), hints);

        let wild =
            json!({ "temperature": -1, "top_k": -1, "top_p": 0, "min_p": "x", "repetition_penalty": 1e300 });
        let hints = SamplingHints::from_json(&wild);
        assert_eq!(hints, SamplingHints { top_k: Some(0), ..SamplingHints::default() });
    }
}
