//! `fit-plan`: fits the planner to the measured runs of the tree, says how well it predicts what it has not seen, and
//! writes a receipt.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use autarky_plan::fit::{
    Alike, CrossReport, CrossRow, Effort, Fits, LeftOut, Replicate, cross_validate, documents_of, intervals,
    refit, replicates,
};
use autarky_plan::runs::Kind;
use clap::Args;

#[derive(Args)]
pub(crate) struct PlanArgs {
    /// Changes of the kernel's scales that a search tries. Its start predicts what is left out as well as 500 do.
    #[arg(long, default_value_t = 0)]
    steps: usize,
    /// Folds of the outer cross-validation.
    #[arg(long, default_value_t = 4)]
    folds: usize,
    /// Where random numbers start.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What it costs the search to move a scale by a factor of e.
    #[arg(long, default_value_t = 0.004)]
    caution: f64,
    /// Start the final search from the stored kernel instead of anew.
    #[arg(long)]
    warm: bool,
    /// Only validate and calibrate; leave efficiencies and kernel as they are stored.
    #[arg(long)]
    keep: bool,
    /// Only fit; leave the intervals as they are stored.
    #[arg(long)]
    no_cross: bool,
}

const SHARE: f64 = 0.8;

pub(crate) fn run(root: &Path, args: &PlanArgs) -> Result<()> {
    let path = root.join("crates/plan/data/fit.json");
    let stored: Option<Fits> = fs::read_to_string(&path).ok().and_then(|t| serde_json::from_str(&t).ok());
    let effort = Effort { steps: args.steps, seed: args.seed, caution: args.caution };
    let mut fits = match (&stored, args.keep) {
        (Some(fits), true) => fits.clone(),
        _ => refit(stored.as_ref().filter(|_| args.warm), effort).context("the runs cannot be fitted")?,
    };
    if !args.no_cross {
        let left_out = |what| cross_validate(what, args.folds, effort);
        let reports = [left_out(LeftOut::Documents)?, left_out(LeftOut::Chips)?];
        fits.intervals = intervals(&reports, SHARE);
        let text = report(&reports, args) + &agreement(&reports[0])?;
        println!("{text}");
        fs::write(root.join("bench/receipts/plan-accuracy.md"), text)?;
        fs::write(root.join("bench/receipts/plan-accuracy.csv"), rows(&reports))?;
        let readme = root.join("README.md");
        let text = fs::read_to_string(&readme)?;
        fs::write(&readme, between(&text, &summary(&reports))?)?;
    }
    fs::write(&path, serde_json::to_string_pretty(&fits)? + "\n")?;
    Ok(())
}

fn rows([documents, chips]: &[CrossReport; 2]) -> String {
    let mut out = String::from("left_out,kind,id,chip,ln_error,ln_error_physics_only,sigma,document\n");
    for (name, report) in [("document", documents), ("chip", chips)] {
        for r in &report.rows {
            let _ = writeln!(
                out,
                "{name},{},{},{},{:.4},{:.4},{:.4},\"{}\"",
                r.kind.name(),
                r.id,
                r.chip,
                r.error,
                r.physics_error,
                r.sigma,
                r.document.replace('"', "'")
            );
        }
    }
    out
}

/// |predicted / measured − 1| of a logarithm of measured / predicted.
fn relative(error: f64) -> f64 {
    ((-error).exp() - 1.0).abs()
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (q * (values.len().saturating_sub(1)) as f64).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

fn line(out: &mut String, name: &str, rows: &[&CrossRow]) {
    let mut errors: Vec<f64> = rows.iter().map(|r| relative(r.error)).collect();
    let mut physics: Vec<f64> = rows.iter().map(|r| relative(r.physics_error)).collect();
    let (median, tail) = (quantile(&mut errors, 0.5), quantile(&mut errors, 0.9));
    let _ = writeln!(
        out,
        "| {name} | {} | {:.1} % | {:.1} % | {:.1} | {:.1} % |",
        rows.len(),
        100.0 * median,
        100.0 * tail,
        tail / median,
        100.0 * quantile(&mut physics, 0.5),
    );
}

/// Where the README's table goes.
const START: &str = "<!-- plan: written by `cargo xtask fit-plan` -->\n";
const END: &str = "<!-- plan: end -->";

/// `text` with `table` in its place.
fn between(text: &str, table: &str) -> Result<String> {
    let place = text.split_once(START).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let (head, tail) = place.with_context(|| format!("README.md has no {START} and {END}"))?;
    Ok(format!("{head}{START}\n{table}\n{END}{tail}"))
}

/// The README's table.
fn summary(reports: &[CrossReport; 2]) -> String {
    let [documents, chips] = reports;
    let mut out = String::from(
        "| predicted | runs | median error, document unseen | median error, chip unseen | runs inside their 80 % interval |\n\
         | --- | ---: | ---: | ---: | ---: |\n",
    );
    let covered = documents.coverage(reports, SHARE);
    for (kind, name) in [
        (Kind::Train, "training"),
        (Kind::Prefill, "prefill"),
        (Kind::Decode, "decode"),
        (Kind::Serve, "serving"),
    ] {
        let median = |report: &CrossReport| {
            let of = report.rows.iter().filter(|r| r.kind == kind);
            100.0 * quantile(&mut of.map(|r| relative(r.error)).collect::<Vec<_>>(), 0.5)
        };
        let runs = documents.rows.iter().filter(|r| r.kind == kind).count();
        let inside = covered.iter().find(|c| c.0 == kind).map_or(f64::NAN, |c| 100.0 * c.1);
        let _ = writeln!(
            out,
            "| {name} | {runs} | {:.0} % | {:.0} % | {inside:.0} % |",
            median(documents),
            median(chips)
        );
    }
    out
}

/// What other documents say of the runs that they measured, too, beside what we say.
fn agreement(report: &CrossReport) -> Result<String> {
    let mut out = String::from(
        "\n## How well the published runs agree with each other\n\n\
         Runs that another document measured, too: the same model, format, chips, software, cut and load, to a twentieth \
         (*same*), or the same model, format and chip with sizes within a factor of 2, scaled by what our physics say of \
         both (*nearly*). Each is foretold by the mean of the other documents' figures, by logarithm; beside it, what we \
         say of these very runs without their document. No predictor can be sure to be nearer than published runs are to \
         each other.\n\n\
         | alike | kind | runs | pairs with a document | documents | median, by others | 90th | their ratio | median, ours | 90th |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (alike, name) in [(Alike::Same, "same"), (Alike::Nearly, "nearly")] {
        let all = replicates(report, alike)?;
        for kind in Kind::ALL.into_iter().map(Some).chain([None]) {
            let of: Vec<&Replicate> = all.iter().filter(|r| kind.is_none_or(|k| r.kind == k)).collect();
            if of.is_empty() {
                continue;
            }
            let mut others: Vec<f64> = of.iter().map(|r| relative(r.others)).collect();
            let mut ours: Vec<f64> = of.iter().map(|r| relative(r.ours)).collect();
            let (median, tail) = (quantile(&mut others, 0.5), quantile(&mut others, 0.9));
            let _ = writeln!(
                out,
                "| {name} | {} | {} | {} | {} | {:.1} % | {:.1} % | {:.1} | {:.1} % | {:.1} % |",
                kind.map_or("all", Kind::name),
                of.len(),
                of.iter().map(|r| r.count).sum::<usize>(),
                documents_of(of.iter().copied()),
                100.0 * median,
                100.0 * tail,
                tail / median,
                100.0 * quantile(&mut ours, 0.5),
                100.0 * quantile(&mut ours, 0.9),
            );
        }
    }
    Ok(out)
}

fn report(reports: &[CrossReport; 2], args: &PlanArgs) -> String {
    let [documents, chips] = reports;
    let mut out = String::from("# How well the planner predicts what it has not seen\n\n");
    let _ = writeln!(
        out,
        "Made by `cargo xtask fit-plan --steps {} --folds {} --seed {}`. Nested cross-validation: documents (or chips) \
         are dealt into {} folds; efficiencies and the kernel's scales are searched without any run of a fold; then each \
         document (or chip) of the fold is predicted by a regression that has seen all others. Errors are \
         |predicted / measured − 1|. Intervals are as many of the regression's standard deviations wide as cover 80 % of the \
         kind's errors in both tables, those of the run's own document (or chip) not counted. Every run is in `plan-accuracy.csv`.\n",
        args.steps, args.folds, args.seed, args.folds
    );
    for (title, report) in [("Whole documents left out", documents), ("Whole chips left out", chips)] {
        let _ = writeln!(
            out,
            "## {title}\n\n| kind | runs | median error | 90th percentile | their ratio | median, physics alone |\n| --- | --- | --- | --- | --- | --- |"
        );
        let all: Vec<&CrossRow> = report.rows.iter().collect();
        for kind in Kind::ALL {
            let of: Vec<&CrossRow> = all.iter().copied().filter(|r| r.kind == kind).collect();
            line(&mut out, kind.name(), &of);
            if kind == Kind::Decode {
                let single: Vec<&CrossRow> = of.iter().copied().filter(|r| r.single).collect();
                line(&mut out, "decode, one sequence", &single);
            }
        }
        line(&mut out, "all", &all);
        let _ = writeln!(
            out,
            "\n| kind | coverage of 80 % intervals | median width upwards |\n| --- | --- | --- |"
        );
        for (kind, share, width) in report.coverage(reports, SHARE) {
            let _ = writeln!(out, "| {} | {:.1} % | +{:.0} % |", kind.name(), 100.0 * share, 100.0 * width);
        }
        out.push('\n');
    }
    let mut by: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for r in &documents.rows {
        by.entry((r.chip.as_str(), r.kind.name())).or_default().push(relative(r.error));
    }
    out.push_str("## By chip (documents left out)\n\n| chip | kind | runs | median error |\n| --- | --- | --- | --- |\n");
    for ((chip, kind), mut errors) in by {
        let _ = writeln!(
            out,
            "| {chip} | {kind} | {} | {:.1} % |",
            errors.len(),
            100.0 * quantile(&mut errors, 0.5)
        );
    }
    out
}
