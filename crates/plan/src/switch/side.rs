//! One chip's part of an answer.

use std::sync::Arc;

use serde::Serialize;

use super::ask::Ask;
use super::maturity::{Maturity, maturity};
use crate::chips::{Catalog, Chip, Field, Status};
use crate::claims::{field_source, rests_on};
use crate::fit::{Basis, Predictor};
use crate::policy::{Outcome, Standing};
use crate::predict::Format;
use crate::service::{Placed, Ratio, Work, best, fewest, format_for, ratio, smallest};
use crate::{Figures, RuleBook};

/// Fewer runs than this say little of a chip.
const THIN: usize = 10;
/// The most chips that are looked at.
const MOST: f64 = 16_384.0;
const HOURS_OF_A_YEAR: f64 = 8766.0;

/// The service that is to be given.
pub(super) struct Target {
    /// How the chips in use run it.
    pub(super) placed: Placed,
    /// What they give together.
    pub(super) tokens_per_s: f64,
}

pub(super) struct Context<'a> {
    pub(super) ask: &'a Ask,
    pub(super) work: &'a Work,
    pub(super) catalog: &'a Catalog,
    pub(super) predictor: &'a Predictor,
    pub(super) book: &'a RuleBook,
    pub(super) target: &'a Target,
}

/// A chip's part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// The chip's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its vendor.
    pub vendor: String,
    /// Whether it can be had.
    pub status: Status,
    /// How many of them.
    pub need: Need,
    /// What they do.
    pub service: Option<Service>,
    /// A chip's tokens/s over that of the chip in use, at the same requests in flight on the chips that are needed.
    pub speed: Option<Ratio>,
    /// What the memory has to hold.
    pub fit: Option<Fit>,
    /// Power and money.
    pub cost: Cost,
    /// Data types that the chip in use has a peak of, and this one not.
    pub lacks: Vec<&'static str>,
    /// What is not known of it.
    pub unknown: Vec<&'static str>,
    /// How far its software has come.
    pub maturity: Vec<Maturity>,
    /// What rules say of it.
    pub policy: Vec<Policy>,
    /// What to beware of.
    pub risks: Vec<String>,
}

/// How many chips a service takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Need {
    /// For the same tokens/s to as many users, which is the same speed for each.
    pub service: Option<Chips>,
    /// For the same tokens/s alone, with as many requests in flight as fit.
    pub tokens_alone: Option<f64>,
    /// The fewest that hold the model.
    pub fewest: Option<f64>,
    /// Why there is no number.
    pub problem: Option<String>,
}

/// A number of chips, and what it is with 80 % probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Chips {
    /// The number.
    pub chips: f64,
    /// If they are as fast as they may be; none: even then no number is enough.
    pub low: Option<f64>,
    /// If they are as slow as they may be; none: no number is enough.
    pub high: Option<f64>,
}

/// What chips do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Service {
    /// How many of them.
    pub chips: f64,
    /// Tokens/s and chip.
    pub rate: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Tokens/s of all.
    pub tokens_per_s: f64,
    /// Tokens/s of each user.
    pub per_user: f64,
    /// The number format.
    pub format: String,
    /// Why it is not the one asked for.
    pub format_note: Option<String>,
    /// How the model is cut.
    pub layout: String,
    /// Throughput against the speed of a user, by load.
    pub curve: Vec<Load>,
    /// What the prediction is and rests on.
    pub rests_on: String,
}

/// A point of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Load {
    /// Requests in flight over all chips.
    pub requests: f64,
    /// Tokens/s of each user.
    pub per_user: f64,
    /// Tokens/s and chip.
    pub rate: f64,
    /// Its interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// What memory has to hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// Weights, GiB.
    pub weights_gib: f64,
    /// Memory of all chips, GiB.
    pub memory_gib: f64,
    /// Where a chip's memory is from.
    pub source: String,
}

/// Power and money over the years that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Thermal design power of all chips, W.
    pub power_w: Option<f64>,
    /// Energy at that power, kWh: chips alone, without hosts, cooling and idle hours.
    pub energy_kwh: Option<f64>,
    /// What it costs, USD.
    pub energy_usd: Option<f64>,
    /// What the chips cost, USD.
    pub chips_usd: Option<f64>,
    /// Both.
    pub total_usd: Option<f64>,
    /// Where the power is from.
    pub power_source: Option<String>,
    /// Where the price is from.
    pub price_source: Option<String>,
}

/// What a rule, or what happened, says of a chip.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Policy {
    /// In words.
    pub says: String,
    /// Where it is from.
    pub source: String,
}

/// The chip in use.
pub(super) fn in_use(c: &Context<'_>, chips: f64) -> Side {
    let chip = &c.ask.from;
    let placed = &c.target.placed;
    let need = Need {
        service: Some(Chips { chips, low: Some(chips), high: Some(chips) }),
        fewest: smallest(c.predictor, chip, c.work).ok().map(|(n, _)| n),
        ..Need::default()
    };
    side(c, chip, need, Some(placed.clone()))
}

/// Another chip.
pub(super) fn other(c: &Context<'_>, chip: &Arc<Chip>) -> Side {
    let (unit, _) = match smallest(c.predictor, chip, c.work) {
        Ok(found) => found,
        Err(reason) => {
            let need = Need { problem: Some(reason.to_string()), ..Need::default() };
            return side(c, chip, need, None);
        }
    };
    let mut need = Need { fewest: Some(unit), ..Need::default() };
    let wanted = c.target.tokens_per_s;
    let sized = |tokens| fewest(c.predictor, chip, c.work, unit, tokens, MOST).ok().flatten();
    let placed = sized(wanted);
    if let Some(placed) = &placed {
        let r = ratio(&placed.prediction, &c.target.placed.prediction);
        let low = sized(wanted * r.value / r.interval.high).map(|p| p.job.chips);
        let high = sized(wanted * r.value / r.interval.low).map(|p| p.job.chips);
        need.service = Some(Chips { chips: placed.job.chips, low, high });
    } else {
        let per_user = wanted / c.work.concurrency.unwrap_or(1.0);
        need.problem = Some(format!(
            "no number of chips up to {} gives each user {} tokens/s",
            MOST,
            crate::report::short(per_user)
        ));
    }
    let busiest = Work { concurrency: None, ..c.work.clone() };
    // Where the fewest barely hold the model, more of them leave room for more requests on each.
    let alone = [1.0, 2.0, 4.0, 8.0].into_iter().filter_map(|times| {
        let full = best(c.predictor, chip, &busiest, unit * times).ok()?;
        Some((wanted / (full.prediction.rate * unit * times)).ceil().max(1.0) * unit * times)
    });
    need.tokens_alone = alone.chain(need.service.map(|n| n.chips)).min_by(f64::total_cmp);
    let shown = placed.or_else(|| best(c.predictor, chip, c.work, unit.max(c.target.placed.job.chips)).ok());
    side(c, chip, need, shown)
}

fn side(c: &Context<'_>, chip: &Arc<Chip>, need: Need, placed: Option<Placed>) -> Side {
    let service = placed.as_ref().map(|p| service(c, p));
    let speed = placed.as_ref().map(|p| ratio(&p.prediction, &c.target.placed.prediction));
    let fit = placed.as_ref().and_then(|p| fit(c, chip, p));
    let maturity = maturity(chip, c.catalog, c.predictor);
    let chips = need.service.map(|n| n.chips);
    let peaks = c.ask.from.peak_dense_tops.iter();
    let lacks =
        peaks.filter(|(t, _)| chip.peak_dense_tops.get(*t).is_none()).map(|(t, _)| t.name()).collect();
    let known = [
        (Field::PeakDenseTops, chip.has(Field::PeakDenseTops)),
        (Field::Memory, chip.memory.bandwidth_gb_s.is_some() && chip.memory.capacity_gib.is_some()),
        (Field::Interconnect, chip.interconnect.gb_s_per_direction.is_some()),
        (Field::TdpW, chip.tdp_w.is_some()),
        (Field::PriceUsd, chip.price_usd.is_some()),
    ];
    Side {
        id: chip.id.clone(),
        name: chip.name.clone(),
        vendor: chip.vendor.clone(),
        status: chip.status,
        cost: cost(c.ask, chip, chips),
        risks: risks(c, chip, placed.as_ref(), &maturity),
        unknown: known.into_iter().filter(|(_, known)| !known).map(|(field, _)| field.name()).collect(),
        policy: policy(c, chip),
        need,
        service,
        speed,
        fit,
        lacks,
        maturity,
    }
}

fn service(c: &Context<'_>, placed: &Placed) -> Service {
    let p = &placed.prediction;
    let chips = placed.job.chips;
    let requests = c.work.concurrency.unwrap_or(1.0);
    let mut curve = Vec::new();
    for step in -5..=4 {
        let n = (requests * f64::from(step).exp2()).round();
        if n < 1.0 {
            continue;
        }
        let work = Work { concurrency: Some(n), ..c.work.clone() };
        if let Ok(at) = best(c.predictor, &placed.job.chip, &work, chips) {
            let p = at.prediction;
            curve.push(Load {
                requests: n,
                per_user: p.rate * chips / n,
                rate: p.rate,
                low: p.low,
                high: p.high,
            });
        }
    }
    Service {
        chips,
        rate: p.rate,
        low: p.low,
        high: p.high,
        tokens_per_s: p.rate * chips,
        per_user: p.rate * chips / requests,
        format: placed.job.format.name.clone(),
        format_note: placed.format_note.clone(),
        layout: placed.layout.clone(),
        curve,
        rests_on: rests_on(placed),
    }
}

fn fit(c: &Context<'_>, chip: &Chip, placed: &Placed) -> Option<Fit> {
    let weights = placed.job.format.model_bytes(&c.ask.model);
    Some(Fit {
        weights_gib: weights / f64::from(1u32 << 30),
        memory_gib: chip.memory.capacity_gib? * placed.job.chips,
        source: field_source(chip, Field::Memory),
    })
}

fn cost(ask: &Ask, chip: &Chip, chips: Option<f64>) -> Cost {
    let power_w = chip.tdp_w.zip(chips).map(|(w, n)| w * n);
    let energy_kwh = power_w.map(|w| w / 1000.0 * HOURS_OF_A_YEAR * ask.years);
    let energy_usd = energy_kwh.map(|e| e * ask.usd_per_kwh);
    let price = chip.price_usd.as_ref();
    let chips_usd = price.and_then(|p| p.typical()).zip(chips).map(|(p, n)| p * n);
    let basis = price.and_then(|p| p.basis.clone()).map(|b| format!("; {b}")).unwrap_or_default();
    Cost {
        power_w,
        energy_kwh,
        energy_usd,
        chips_usd,
        total_usd: chips_usd.zip(energy_usd).map(|(a, b)| a + b),
        power_source: chip.tdp_w.map(|_| field_source(chip, Field::TdpW)),
        price_source: price.map(|_| field_source(chip, Field::PriceUsd) + &basis),
    }
}

fn policy(c: &Context<'_>, chip: &Chip) -> Vec<Policy> {
    let mut found = Vec::new();
    for v in c.book.classify(&Figures::of(chip), c.ask.on) {
        if v.standing != Standing::InForce {
            continue;
        }
        let says = match &v.outcome {
            Outcome::Class(class) => format!("{}: {}", class.name, class.meaning),
            Outcome::Otherwise(name) => (*name).to_owned(),
            Outcome::Needs { possible, .. } => format!("open: {}", possible.join(", or ")),
        };
        let source = format!("{}, {} ({})", v.rule.id, v.rule.title, v.rule.confidence.name());
        found.push(Policy { says: format!("{}: {says}", v.rule.id), source });
    }
    if let Some(status) = c.book.status(&chip.id) {
        for event in status.events.iter().filter(|e| e.since <= c.ask.on) {
            let source = format!("what became of {}: {}", chip.id, status.confidence.name());
            found.push(Policy { says: format!("since {}: {}", event.since, event.what), source });
        }
    }
    found
}

fn risks(c: &Context<'_>, chip: &Chip, placed: Option<&Placed>, maturity: &[Maturity]) -> Vec<String> {
    let mut found = Vec::new();
    match chip.status {
        Status::Shipping => {}
        Status::CloudOnly => found.push("it can only be rented from its maker".to_owned()),
        Status::Sampling | Status::Announced => {
            found.push(format!("it is {}: its figures are promises", chip.status.name()));
        }
        Status::Rumoured => {
            found.push("it is rumoured: nobody who sells it has given its figures".to_owned())
        }
        Status::Superseded | Status::Cancelled => found.push(format!("it is {}", chip.status.name())),
    }
    let runs: usize = maturity.iter().map(|m| m.runs).sum();
    if runs < THIN {
        found.push(match runs {
            0 => "no measured run of it is known".to_owned(),
            n => format!("only {n} measured runs of it are known"),
        });
    }
    if let Some(placed) = placed {
        match placed.prediction.basis {
            Basis::DataSheet => found.push("its speed follows from its data sheet alone".to_owned()),
            Basis::Vendor(_) => found.push("its speed follows from other chips of its vendor".to_owned()),
            Basis::Chip(_) => {}
        }
        if placed.prediction.extrapolated {
            found.push("the sizes are outside those of all measured runs".to_owned());
        }
        found.extend(placed.format_note.clone());
    }
    if chip.software_stack != c.ask.from.software_stack
        && let Some(stack) = &chip.software_stack
    {
        found.push(format!("its software is another: {stack}"));
    }
    // A model in this format runs on the chip in use, and may have to be converted.
    let from = format_for(&c.ask.from, &c.work.precision).map(|f| f.0);
    let to = format_for(chip, &c.work.precision).map(|f| f.0);
    let name = |f: &Format| f.name.clone();
    if let (Ok(from), Ok(to)) = (from, to)
        && from.name != to.name
    {
        found.push(format!("weights have to be converted from {} to {}", name(&from), name(&to)));
    }
    let weak = |f: &Field| {
        use crate::Confidence::{Disputed, Press, Unverified, Weak};
        let source = chip.sources.get(f);
        source.is_some_and(|s| matches!(s.confidence, Disputed | Press | Unverified | Weak))
    };
    let fields: Vec<&str> = [Field::PeakDenseTops, Field::Memory, Field::Interconnect]
        .iter()
        .filter(|f| weak(f))
        .map(|f| f.name())
        .collect();
    if !fields.is_empty() {
        found.push(format!("weak sources for {}", fields.join(", ")));
    }
    found
}
