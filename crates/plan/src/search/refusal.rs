//! Why a configuration cannot exist.

/// Why there is no plan, with the nearest that there is.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The fields are named in each variant's message.
pub enum Refusal {
    /// A data sheet's figure is unknown.
    #[error("{chip}: `{figure}` is not known, and nothing can be predicted without it")]
    Missing { chip: String, figure: &'static str },

    /// Heads cannot be cut so.
    #[error(
        "{heads} heads ({kv_heads} of keys and values) cannot be cut over {tensor} devices; {nearest} can"
    )]
    Heads { heads: f64, kv_heads: f64, tensor: f64, nearest: String },

    /// A size does not go into another.
    #[error("{what} {asked} is not possible: {why}; {nearest} is")]
    Size { what: &'static str, asked: f64, why: String, nearest: String },

    /// The pieces are more than the devices.
    #[error("{layout} is {needed} devices, of which there are {there}; fewer pieces, or {needed} devices")]
    Devices { layout: String, needed: f64, there: f64 },

    /// Memory is short.
    #[error("memory is short by {short_gib:.1} GiB: {needed_gib:.1} GiB a device are needed and {there_gib:.1} usable{}", nearest.as_ref().map(|n| format!("; {n}")).unwrap_or_default())]
    Memory { short_gib: f64, needed_gib: f64, there_gib: f64, nearest: Option<String> },

    /// No plan is as quick as was asked.
    #[error(
        "no plan meets the targets; the nearest has {ttft_ms:.0} ms to the first token and {tpot_ms:.1} ms a token ({layout})"
    )]
    Targets { ttft_ms: f64, tpot_ms: f64, layout: String },

    /// No plan takes as many requests as was asked.
    #[error("{chips} chips take {most:.2} requests/s at most, of {asked:.2} asked; {needed} chips take them")]
    Rate { chips: f64, asked: f64, most: f64, needed: f64 },

    /// What is asked makes no sense.
    #[error("{field}: {problem}")]
    Ask { field: &'static str, problem: String },
}

impl Refusal {
    /// Refuses what is no number above zero.
    pub(crate) fn positive(field: &'static str, value: f64) -> Result<f64, Refusal> {
        match value.is_finite() && value > 0.0 {
            true => Ok(value),
            false => Err(Refusal::Ask { field, problem: format!("{value} is not above zero") }),
        }
    }
}
