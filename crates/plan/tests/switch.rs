//! Services on other chips.

use std::sync::Arc;

use autarky_plan::fit::Predictor;
use autarky_plan::model::Model;
use autarky_plan::switch::{self, Answer, Ask, AskError};
use autarky_plan::{Catalog, RuleBook};

fn ask(model: &str, from: &str, to: &[&str]) -> Ask {
    let catalog = Catalog::built_in().unwrap();
    let find = |name: &str| Arc::new(catalog.find(name).unwrap().clone());
    Ask {
        model: Model::open(model).unwrap(),
        precision: None,
        from: find(from),
        to: to.iter().map(|name| find(name)).collect(),
        chips: Some(8.0),
        input: 1024.0,
        output: 512.0,
        concurrency: Some(128.0),
        years: 3.0,
        usd_per_kwh: 0.1,
        on: "2026-06-01".parse().unwrap(),
    }
}

fn answer(ask: &Ask) -> Result<Answer, AskError> {
    let book = RuleBook::built_in().unwrap();
    switch::switch(ask, Catalog::built_in().unwrap(), Predictor::built_in().unwrap(), book)
}

#[test]
fn a_chip_takes_no_more_of_itself() {
    let a = answer(&ask("Qwen3-32B", "nvidia-h100-sxm", &["nvidia-h100-sxm"])).unwrap();
    let need = a.to[0].need.service.unwrap();
    assert!(need.chips <= 8.0 && need.low.unwrap() <= need.chips, "{need:?}");
    assert!(need.high.is_none_or(|high| high >= need.chips), "{need:?}");
    assert!(a.to[0].lacks.is_empty());
}

#[test]
fn a_faster_chip_is_needed_less_often() {
    let a = answer(&ask("Qwen3-32B", "nvidia-a100-sxm-80", &["nvidia-b200-sxm"])).unwrap();
    let b200 = &a.to[0];
    assert!(b200.need.service.unwrap().chips < 8.0, "{:?}", b200.need);
    assert!(b200.speed.unwrap().value > 1.5);
    let per_user = b200.service.as_ref().unwrap().per_user;
    assert!(per_user >= a.from.service.as_ref().unwrap().per_user * 0.999, "{per_user}");
}

#[test]
fn energy_is_power_times_hours() {
    let a = answer(&ask("Qwen3-32B", "nvidia-h100-sxm", &["nvidia-h200-sxm"])).unwrap();
    let cost = &a.from.cost;
    assert_eq!(cost.power_w, Some(5600.0));
    let kwh = cost.energy_kwh.unwrap();
    assert!((kwh - 5.6 * 8766.0 * 3.0).abs() < 1e-6, "{kwh}");
    assert!((cost.energy_usd.unwrap() - kwh * 0.1).abs() < 1e-6);
    assert_eq!(cost.total_usd, Some(cost.energy_usd.unwrap() + cost.chips_usd.unwrap()));
}

#[test]
fn what_cannot_be_known_is_said() {
    let a = answer(&ask("Qwen3-32B", "nvidia-h100-sxm", &["cambricon-mlu690", "huawei-atlas-350"])).unwrap();
    let mlu = &a.to[0];
    assert!(
        mlu.service.is_none() && mlu.need.problem.as_ref().unwrap().contains("not known"),
        "{:?}",
        mlu.need
    );
    assert!(mlu.risks.iter().any(|r| r.contains("no measured run")), "{:?}", mlu.risks);
    let atlas = &a.to[1];
    assert!(atlas.lacks.contains(&"bf16"));
    let note = atlas.service.as_ref().unwrap().format_note.as_ref().unwrap();
    assert!(note.contains("no peak for bf16"), "{note}");
}

#[test]
fn measured_runs_stay_below_data_sheets() {
    let a = answer(&ask("Qwen3-32B", "nvidia-h100-sxm", &["huawei-ascend-910c"])).unwrap();
    for m in a.from.maturity.iter().chain(&a.to[0].maturity) {
        assert!(m.runs > 0 && m.median > 0.0 && m.median <= m.best && m.best <= 1.0, "{m:?}");
    }
    assert!(a.from.maturity.iter().any(|m| m.kind == "serve" && m.runs > 50));
}

#[test]
fn every_number_of_the_summary_has_a_source() {
    let to = ["huawei-ascend-910c", "amd-mi300x", "cambricon-mlu690", "nvidia-rubin"];
    let a = answer(&ask("DeepSeek-V3", "nvidia-h20-96", &to).at(32.0)).unwrap();
    let words = switch::summary(&a);
    assert_eq!(words.paragraphs.len(), 5);
    let mut cited = vec![false; words.notes.len()];
    for paragraph in &words.paragraphs {
        for part in paragraph.split('[').skip(1) {
            let n: usize = part.split(']').next().unwrap().parse().unwrap();
            cited[n - 1] = true;
        }
    }
    assert!(cited.iter().all(|c| *c), "{words:?}");
    let html = switch::page(&a).html();
    assert!(html.contains("data-kind=\"curves\"") && html.contains("id=\"note-1\""));
}

trait At {
    fn at(self, chips: f64) -> Ask;
}

impl At for Ask {
    fn at(self, chips: f64) -> Ask {
        Ask { chips: Some(chips), ..self }
    }
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let good = ask("Qwen3-32B", "nvidia-h100-sxm", &["amd-mi300x"]);
    for (bad, field) in [
        (Ask { chips: Some(0.0), ..good.clone() }, "count"),
        (Ask { input: f64::NAN, ..good.clone() }, "load: tokens of a prompt"),
        (Ask { years: -1.0, ..good.clone() }, "years"),
        (Ask { usd_per_kwh: f64::INFINITY, ..good.clone() }, "electricity"),
    ] {
        let Err(AskError::Number { field: at, .. }) = answer(&bad) else { panic!("{field} is accepted") };
        assert_eq!(at, field);
    }
    let small = ask("DeepSeek-V3", "nvidia-h100-sxm", &["amd-mi300x"]).at(1.0);
    assert!(matches!(answer(&small), Err(AskError::From { .. })));
}
