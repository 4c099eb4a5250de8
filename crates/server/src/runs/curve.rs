//! What the lines of a run's `metrics.jsonl` come to, in a bounded amount of memory however many there are.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::thin::Thin;

/// Samples that are kept: the newest.
const SAMPLES: usize = 16;
/// Characters of a sample's text, and of its prompt, at most.
const SAMPLE_CHARS: usize = 2000;
/// Dropped steps whose numbers are kept: the newest.
const DROPPED: usize = 100;
/// Steps by which speed is told: the newest.
const RECENT: usize = 20;

/// A line, as far as it is shown. `autarky train` writes them; its documentation says what they mean.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Step {
        step: u64,
        loss: Option<f32>,
        learning_rate: f32,
        tokens: u64,
        seconds: f64,
    },
    Evaluation {
        step: u64,
        loss: f32,
        bits_per_byte: f64,
    },
    Pairs {
        step: u64,
        held_out: bool,
        loss: f32,
        accuracy: f32,
    },
    Rewards {
        step: u64,
        held_out: bool,
        reward: f32,
    },
    Sample {
        step: u64,
        prompt: String,
        text: String,
    },
    /// Of a later version.
    #[serde(other)]
    Other,
}

/// What the model wrote after some steps.
#[derive(Clone, Debug, Serialize)]
struct Sample {
    step: u64,
    prompt: String,
    text: String,
}

/// A run as far as its lines were read.
#[derive(Clone, Debug, Default)]
pub(super) struct Curve {
    /// The last step.
    pub(super) steps: u64,
    /// Lines that could not be read.
    pub(super) skipped: u64,
    loss: Thin,
    held_out: Thin,
    learning_rate: Thin,
    tokens_per_second: Thin,
    /// Of runs that learn from preferences: the part of the pairs that are the right way round.
    accuracy: [Thin; 2],
    /// Of runs that learn from rewards: the mean reward.
    reward: [Thin; 2],
    bits_per_byte: Option<f64>,
    samples: VecDeque<Sample>,
    dropped: u64,
    dropped_steps: VecDeque<u64>,
    /// Tokens and seconds of the newest steps.
    recent: VecDeque<(u64, f64)>,
}

/// Adds to the end of a queue that has at most `most` entries.
fn push<T>(queue: &mut VecDeque<T>, entry: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(entry);
}

impl Curve {
    /// Takes in a line; one that cannot be read is counted.
    pub(super) fn read(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        match serde_json::from_slice(line) {
            Ok(line) => self.add(line),
            Err(_) => self.skip(),
        }
    }

    /// Counts a line that cannot be read.
    pub(super) fn skip(&mut self) {
        self.skipped = self.skipped.saturating_add(1);
    }

    fn add(&mut self, line: Line) {
        match line {
            // Steps are written in their order: anything else is not of this run.
            Line::Step { step, .. } if step <= self.steps => self.skip(),
            Line::Step { step, loss, learning_rate, tokens, seconds } => {
                self.steps = step;
                match loss {
                    Some(loss) => self.loss.add(step, loss),
                    None => {
                        self.dropped = self.dropped.saturating_add(1);
                        push(&mut self.dropped_steps, step, DROPPED);
                    }
                }
                self.learning_rate.add(step, learning_rate);
                if seconds > 0.0 {
                    self.tokens_per_second.add(step, (tokens as f64 / seconds) as f32);
                    push(&mut self.recent, (tokens, seconds), RECENT);
                }
            }
            Line::Evaluation { step, loss, bits_per_byte } => {
                self.held_out.add(step, loss);
                self.bits_per_byte = Some(bits_per_byte);
            }
            Line::Pairs { step, held_out, loss, accuracy } => {
                let [learned, other] = &mut self.accuracy;
                if held_out {
                    self.held_out.add(step, loss);
                    other.add(step, accuracy);
                } else {
                    learned.add(step, accuracy);
                }
            }
            Line::Rewards { step, held_out, reward } => {
                let [drawn, other] = &mut self.reward;
                if held_out { other } else { drawn }.add(step, reward);
            }
            Line::Sample { step, prompt, text } => {
                let cut = |text: String| text.chars().take(SAMPLE_CHARS).collect();
                push(&mut self.samples, Sample { step, prompt: cut(prompt), text: cut(text) }, SAMPLES);
            }
            Line::Other => {}
        }
    }

    /// Seconds that a step takes: the mean of the newest.
    pub(super) fn seconds_per_step(&self) -> Option<f64> {
        let seconds: f64 = self.recent.iter().map(|(_, seconds)| seconds).sum();
        (!self.recent.is_empty()).then(|| seconds / self.recent.len() as f64)
    }

    fn speed(&self) -> Option<f64> {
        let sum = |sum: (f64, f64), (tokens, seconds): &(u64, f64)| (sum.0 + *tokens as f64, sum.1 + seconds);
        let (tokens, seconds) = self.recent.iter().fold((0.0, 0.0), sum);
        (seconds > 0.0).then(|| tokens / seconds)
    }

    /// The numbers of a list of runs.
    pub(super) fn summary(&self) -> Value {
        let [_, reward] = &self.reward;
        let [drawn, _] = &self.reward;
        json!({
            "steps": self.steps,
            "loss": self.loss.last(),
            "held_out": self.held_out.last(),
            "bits_per_byte": self.bits_per_byte,
            "reward": reward.last().or(drawn.last()),
            "tokens_per_second": self.speed(),
            "dropped": self.dropped,
            "skipped": self.skipped,
        })
    }

    /// What there is, of steps above `after` where that is given.
    pub(super) fn json(&self, after: Option<u64>) -> Value {
        let new = |step: u64| after.is_none_or(|after| step > after);
        let both = |[learned, held_out]: &[Thin; 2]| match learned.last().or(held_out.last()) {
            Some(_) => json!({"learned": learned.json(after), "held_out": held_out.json(after)}),
            None => Value::Null,
        };
        json!({
            "loss": self.loss.json(after),
            "held_out": self.held_out.json(after),
            "learning_rate": self.learning_rate.json(after),
            "tokens_per_second": self.tokens_per_second.json(after),
            "accuracy": both(&self.accuracy),
            "reward": both(&self.reward),
            "samples": self.samples.iter().filter(|sample| new(sample.step)).collect::<Vec<_>>(),
            "dropped_steps": self.dropped_steps.iter().filter(|step| new(**step)).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINES: [&str; 5] = [
        r#"{"kind":"step","step":7,"loss":2.5,"norm":1.0,"learning_rate":0.001,"tokens":9,"epoch":0.1,"seconds":2.0}"#,
        r#"{"kind":"evaluation","step":7,"loss":2.5,"bits_per_byte":1.5,"tokens":9}"#,
        r#"{"kind":"pairs","step":7,"held_out":false,"loss":0.5,"accuracy":0.5,"margin":0.1,"pairs":2}"#,
        r#"{"kind":"rewards","step":7,"held_out":true,"reward":0.5}"#,
        r#"{"kind":"sample","step":7,"prompt":"a","text":"b"}"#,
    ];

    proptest! {
        #[test]
        fn whatever_the_bytes_are_they_are_read_or_counted(
            edits in prop::collection::vec((0usize..5, any::<prop::sample::Index>(), any::<u8>()), 1..60)
        ) {
            let mut curve = Curve::default();
            for (which, at, byte) in edits {
                let mut line = LINES[which].as_bytes().to_vec();
                let at = at.index(line.len());
                line[at] = byte;
                curve.read(&line);
                line.truncate(at);
                let before = curve.skipped;
                curve.read(&line);
                prop_assert!(at == 0 || curve.skipped == before + 1, "half a line is no line");
            }
            prop_assert!(curve.json(None).to_string().len() < 100_000);
            prop_assert!(curve.summary().is_object());
        }
    }

    #[test]
    fn samples_and_dropped_steps_are_bounded() {
        let mut curve = Curve::default();
        for step in 1..=500 {
            let line = json!({"kind": "step", "step": step, "loss": null, "learning_rate": 0.1, "tokens": 0, "seconds": 0.0});
            curve.read(line.to_string().as_bytes());
            let line =
                json!({"kind": "sample", "step": step, "prompt": "é".repeat(9000), "text": "x".repeat(9000)});
            curve.read(line.to_string().as_bytes());
        }
        let all = curve.json(None);
        let samples = all["samples"].as_array().unwrap();
        assert_eq!((samples.len(), &samples[15]["step"]), (SAMPLES, &json!(500)));
        assert_eq!(samples[0]["prompt"].as_str().unwrap().chars().count(), SAMPLE_CHARS);
        assert_eq!(all["dropped_steps"].as_array().unwrap().len(), DROPPED);
        assert_eq!(curve.summary()["dropped"], 500);
        assert_eq!(curve.summary()["tokens_per_second"], Value::Null);
    }
}
