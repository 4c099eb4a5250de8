//! Rules: 42 parts come out as they are expected to, and every line lies where the rule's text puts it.

use autarky_plan::policy::{Condition, Need, Outcome, Rule, Standing};
use autarky_plan::{Catalog, Date, Figures, RuleBook};
use serde_json::Value;

const CLASSIFIED: &str = include_str!("data/classified.json");
const NEEDS_AREA: &str = "needs die area: a if PD>=5.92, b if in band";

/// Links of 126 GB/s are below 600 whatever the TPP is, so nothing needs to be learned.
const DECIDED: [(&str, &str, &str); 1] = [("nvidia-rtx-pro-6000d", "us-2022-10-07", "not 3A090")];

/// Where the figures of the catalog do not decide, because the speed of a link is not published; the
/// expectations take it for zero.
const LINK_UNKNOWN: [(&str, &str); 5] = [
    ("baidu-kunlun-p800", "us-2022-10-07"),
    ("intel-xeon-6980p", "us-2022-10-07"),
    ("intel-xeon-6980p", "us-2025-04-letters"),
    ("google-tpu-v5e", "us-2025-04-letters"),
    ("hygon-dcu-k100-ai", "us-2025-04-letters"),
];

fn book() -> &'static RuleBook {
    RuleBook::built_in().unwrap()
}

fn date(text: &str) -> Date {
    text.parse().unwrap()
}

struct Row {
    chip: String,
    figures: Figures,
    expected: Vec<(String, Option<String>)>,
}

fn rows() -> Vec<Row> {
    let rows: Vec<Value> = serde_json::from_str(CLASSIFIED).unwrap();
    let row = |v: &Value| Row {
        chip: v["chip"].as_str().unwrap().to_owned(),
        figures: Figures {
            tpp: v["figures"]["tpp"].as_f64(),
            performance_density: v["figures"]["performance_density"].as_f64(),
            dram_bandwidth_gb_s: v["figures"]["dram_bandwidth_gb_s"].as_f64(),
            io_bandwidth_bidir_gb_s: v["figures"]["io_bandwidth_bidir_gb_s"].as_f64(),
            hbm_bandwidth_density_gb_s_mm2: None,
            datacentre: v["figures"]["datacentre"].as_bool(),
        },
        expected: v["expected"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(rule, e)| (rule.clone(), e.as_str().map(str::to_owned)))
            .collect(),
    };
    rows.iter().map(row).collect()
}

#[track_caller]
fn check(chip: &str, rule: &str, outcome: &Outcome, expected: Option<&str>) {
    let decided = DECIDED.iter().find(|(c, r, _)| (*c, *r) == (chip, rule)).map(|(_, _, name)| *name);
    match (outcome, expected.or(decided)) {
        (Outcome::Needs { needs, possible }, Some(NEEDS_AREA)) => {
            assert_eq!(needs, &[Need::DieArea], "{chip} {rule}");
            assert_eq!(possible, &["3A090.a", "3A090.b", "not 3A090"], "{chip} {rule}");
        }
        (Outcome::Needs { needs, .. }, None) => assert!(!needs.is_empty(), "{chip} {rule}"),
        (outcome, expected) => assert_eq!(outcome.name(), expected, "{chip} {rule}"),
    }
}

#[test]
fn forty_two_parts_come_out_as_expected() {
    let rows = rows();
    assert_eq!(rows.len(), 42);
    for row in &rows {
        let verdicts = book().classify(&row.figures, date("2026-06-01"));
        let rules: Vec<&str> = verdicts.iter().map(|v| v.rule.id.as_str()).collect();
        assert_eq!(rules, ["us-2022-10-07", "us-2023-10-17", "us-2025-04-letters", "us-2026-01-15"]);
        for (rule, expected) in &row.expected {
            let verdict = verdicts.iter().find(|v| v.rule.id == *rule).unwrap();
            check(&row.chip, rule, &verdict.outcome, expected.as_deref());
        }
    }
}

#[test]
fn what_is_unknown_is_asked_for_by_name() {
    let needs = |chip: &str, rule: &str| {
        let row = rows().into_iter().find(|r| r.chip == chip).unwrap();
        match book().rule(rule).unwrap().outcome(&row.figures) {
            Outcome::Needs { needs, .. } => needs,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(needs("nvidia-rtx-pro-6000d", "us-2023-10-17"), [Need::Tpp, Need::DieArea]);
    assert_eq!(needs("nvidia-rtx-pro-6000d", "us-2026-01-15"), [Need::Tpp]);
    assert_eq!(needs("thead-ppu-810e", "us-2025-04-letters"), [Need::DramBandwidth]);
    assert_eq!(needs("baidu-kunlun-p800", "us-2026-01-15"), [Need::DramBandwidth]);
}

#[test]
fn the_catalog_has_the_figures_that_were_classified() {
    let catalog = Catalog::built_in().unwrap();
    for row in rows() {
        let chip = catalog.find(&row.chip).unwrap();
        let figures = Figures::of(chip);
        let near = |a: Option<f64>, b: Option<f64>, by: f64| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() <= by,
            (a, b) => a == b,
        };
        assert!(near(figures.tpp, row.figures.tpp, 0.5), "{}", row.chip);
        assert!(near(figures.performance_density, row.figures.performance_density, 0.006), "{}", row.chip);
        assert_eq!(figures.dram_bandwidth_gb_s, row.figures.dram_bandwidth_gb_s, "{}", row.chip);
        assert_eq!(figures.datacentre, row.figures.datacentre, "{}", row.chip);
        let io = figures.io_bandwidth_bidir_gb_s;
        // 16 lanes of PCIe 4.0 carry 31.5 GB/s; the expectations round that down.
        assert!(io.is_none() || near(io, row.figures.io_bandwidth_bidir_gb_s, 1.0), "{} {io:?}", row.chip);
        for (rule, expected) in &row.expected {
            let outcome = book().rule(rule).unwrap().outcome(&figures);
            match LINK_UNKNOWN.contains(&(row.chip.as_str(), rule.as_str())) {
                true => assert!(
                    matches!(&outcome, Outcome::Needs { needs, .. } if needs.contains(&Need::IoBandwidth)),
                    "{} {rule} {outcome:?}",
                    row.chip
                ),
                false => check(&row.chip, rule, &outcome, expected.as_deref()),
            }
        }
    }
}

/// What a rule says of a part for data centres with these figures.
fn says(rule: &str, tpp: f64, density: f64, dram: f64, io: f64, datacentre: bool) -> String {
    let figures = Figures {
        tpp: Some(tpp),
        performance_density: Some(density),
        dram_bandwidth_gb_s: Some(dram),
        io_bandwidth_bidir_gb_s: Some(io),
        hbm_bandwidth_density_gb_s_mm2: None,
        datacentre: Some(datacentre),
    };
    book().rule(rule).unwrap().outcome(&figures).name().unwrap().to_owned()
}

#[test]
fn lines_of_2022_lie_at_600_and_4800() {
    for (tpp, io, expected) in [
        (4800.0, 600.0, "3A090"),
        (4799.9, 600.0, "not 3A090"),
        (4800.0, 599.9, "not 3A090"),
        (1e6, 400.0, "not 3A090"),
    ] {
        assert_eq!(says("us-2022-10-07", tpp, 1.0, 0.0, io, true), expected, "{tpp} {io}");
    }
}

#[test]
fn lines_of_2023_lie_where_parts_were_made_to_miss_them() {
    for (tpp, density, expected) in [
        (4800.0, 0.1, "3A090.a"),
        (4799.9, 0.1, "not 3A090"),
        (4799.9, 1.6, "3A090.b"),
        (4799.9, 1.59, "not 3A090"),
        (4799.9, 5.92, "3A090.a"),
        (4799.9, 5.91, "3A090.b"),
        (2400.0, 1.6, "3A090.b"),
        (2399.9, 1.6, "not 3A090"),
        (2399.9, 3.19, "not 3A090"),
        (1600.0, 3.2, "3A090.b"),
        (1600.0, 5.92, "3A090.a"),
        (1599.9, 5.92, "not 3A090"),
        (1599.9, 100.0, "not 3A090"),
        // H20, L20 and L2 sit just outside.
        (2368.0, 2.91, "not 3A090"),
        (1912.0, 3.139, "not 3A090"),
        (1544.0, 5.25, "not 3A090"),
    ] {
        assert_eq!(says("us-2023-10-17", tpp, density, 0.0, 0.0, true), expected, "{tpp} {density}");
    }
    for (tpp, density, expected) in [
        (4800.0, 0.1, "3A090.a (non-data-centre, NAC path)"),
        (4799.9, 8.0, "not 3A090 (non-data-centre note)"),
        (2400.0, 1.6, "not 3A090 (non-data-centre note)"),
        (2399.9, 1.6, "not 3A090"),
        (1500.0, 8.0, "not 3A090"),
    ] {
        assert_eq!(says("us-2023-10-17", tpp, density, 0.0, 0.0, false), expected, "{tpp} {density}");
    }
}

#[test]
fn lines_of_the_letters_lie_at_1400_1100_and_1700_together() {
    for (dram, io, expected) in [
        (1400.0, 0.0, "at or above"),
        (1398.0, 126.0, "below"),
        (0.0, 1100.0, "at or above"),
        (600.0, 1099.9, "below"),
        (600.0, 1100.0, "at or above"),
        (1000.0, 700.0, "at or above"),
        (1000.0, 699.9, "below"),
    ] {
        assert_eq!(says("us-2025-04-letters", 0.1, 0.1, dram, io, true), expected, "{dram} {io}");
    }
}

#[test]
fn the_window_ends_at_21000_and_6500() {
    for (tpp, dram, inside) in [
        (20_919.0, 6000.0, true),
        (20_999.9, 6499.9, true),
        (21_000.0, 6000.0, false),
        (20_919.0, 6500.0, false),
    ] {
        let said = says("us-2026-01-15", tpp, 1.0, dram, 0.0, true);
        assert_eq!(said.starts_with("inside"), inside, "{tpp} {dram}");
    }
}

#[test]
fn stacks_of_memory_have_a_rule_of_their_own() {
    let on = date("2026-01-01");
    for (density, expected) in [(2.0, "not 3A090.c"), (2.1, "3A090.c (exception HBM)"), (3.3, "3A090.c")] {
        let figures = Figures { hbm_bandwidth_density_gb_s_mm2: Some(density), ..Figures::default() };
        let verdicts = book().classify(&figures, on);
        let verdict = verdicts.iter().find(|v| v.rule.id == "us-2024-12-02").unwrap();
        assert_eq!(verdict.outcome.name(), Some(expected), "{density}");
    }
}

#[test]
fn a_rule_holds_from_its_day_until_another_takes_its_place() {
    let first = book().rule("us-2022-10-07").unwrap();
    let second = book().rule("us-2023-10-17").unwrap();
    for (on, of_first, of_second) in [
        ("2022-10-06", Standing::NotYet, Standing::NotYet),
        ("2022-10-07", Standing::InForce, Standing::NotYet),
        ("2023-11-16", Standing::InForce, Standing::NotYet),
        ("2023-11-17", Standing::Superseded { by: second }, Standing::InForce),
        ("2026-06-01", Standing::Superseded { by: second }, Standing::InForce),
    ] {
        assert_eq!(book().standing(first, date(on)), of_first, "{on}");
        assert_eq!(book().standing(second, date(on)), of_second, "{on}");
    }
    let diffusion = book().rule("us-2025-01-15-diffusion").unwrap();
    assert_eq!(book().standing(diffusion, date("2025-05-12")), Standing::InForce);
    assert_eq!(book().standing(diffusion, date("2025-05-13")), Standing::Ended);
}

#[test]
fn lines_say_how_far_a_part_is_from_them() {
    let h20 = Figures::of(Catalog::built_in().unwrap().find("nvidia-h20-96").unwrap());
    let lines = book().rule("us-2023-10-17").unwrap().lines(&h20);
    let tpp: Vec<_> = lines.iter().filter(|l| l.figure.name() == "tpp").collect();
    assert_eq!(tpp.iter().map(|l| l.line).collect::<Vec<_>>(), [4800.0, 1600.0, 2400.0], "each line once");
    assert_eq!((tpp[2].distance, tpp[2].crossed), (Some(-32.0), Some(false)));
    assert_eq!((tpp[1].distance, tpp[1].crossed), (Some(768.0), Some(true)));
    assert!((tpp[2].ratio.unwrap() - 2368.0 / 2400.0).abs() < 1e-12);
}

#[test]
fn an_unknown_figure_that_decides_nothing_is_not_asked_for() {
    let figures = Figures { dram_bandwidth_gb_s: Some(4000.0), ..Figures::default() };
    assert_eq!(book().rule("us-2025-04-letters").unwrap().outcome(&figures).name(), Some("at or above"));
    let figures = Figures { datacentre: None, tpp: Some(4800.0), ..Figures::default() };
    match book().rule("us-2023-10-17").unwrap().outcome(&figures) {
        Outcome::Needs { needs, .. } => assert_eq!(needs, [Need::Datacentre]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn statuses_are_of_chips_that_are_there_and_every_part_has_one() {
    let catalog = Catalog::built_in().unwrap();
    for status in book().statuses() {
        assert!(catalog.chips().iter().any(|c| c.id == status.id), "{}", status.id);
        assert!(!status.events.is_empty(), "{}", status.id);
    }
    for row in rows() {
        assert!(book().status(&row.chip).is_some(), "{}", row.chip);
    }
}

#[test]
fn rules_are_in_order_and_say_where_they_are_from() {
    assert!(book().rules().is_sorted_by_key(|r| r.effective));
    assert_eq!(book().rules().len(), 25);
    for rule in book().rules() {
        assert!(!rule.source.is_empty() && !rule.text.is_empty(), "{}", rule.id);
    }
    assert_eq!(book().definitions().len(), 4);
    assert!(book().payments().iter().all(|p| p.percent > 0.0 && p.percent < 100.0));
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let good = "id = \"r\"\ntitle = \"t\"\nissuer = \"us\"\neffective = \"2025-01-01\"\ntext = \"x\"\n\
                source = \"s\"\nconfidence = \"press\"\notherwise = \"no\"\n[[class]]\nname = \"c\"\nmeaning = \"m\"\n\
                [class.when]\nfigure = \"tpp\"\nat_least = 1\n";
    let rule = Rule::parse("r.toml", good).unwrap();
    let text = serde_json::to_string(&rule.classes[0].when).unwrap();
    assert_eq!(serde_json::from_str::<Condition>(&text).unwrap(), rule.classes[0].when);
    for (from, to, reason) in [
        ("at_least = 1", "at_least = 1\nbelow = 2", "one of"),
        ("at_least = 1", "at_least = nan", "above zero"),
        ("at_least = 1", "", "a condition is"),
        ("figure = \"tpp\"\nat_least = 1", "any_of = []", "a condition is"),
        ("2025-01-01", "2025-02-30", "no date"),
        ("otherwise = \"no\"\n", "", "goes with classes"),
        ("id = \"r\"", "id = \"q\"", "file's name"),
        ("issuer = \"us\"", "issuer = \"us\"\nended = \"2024-12-31\"", "before effective"),
        ("issuer = \"us\"", "issuer = \"us\"\nsuperseded_by = \"r\"", "rule itself"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = Rule::parse("r.toml", &good.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.starts_with("r.toml: ") && error.contains(reason), "{to}: {error}");
    }
}
