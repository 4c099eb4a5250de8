//! What is known of the statements that come with the program.

use autarky_plan::claims::{self, Answer, Aspect, Basis, Claim, Of, Verdict, check};
use autarky_plan::fit::Predictor;
use autarky_plan::service::typical;
use autarky_plan::{Catalog, DataError, DataType};

fn answers(id: &str) -> Vec<Answer> {
    let claims = claims::built_in().unwrap();
    let claim = claims.iter().find(|c| c.id == id).unwrap();
    check(claim, Catalog::built_in().unwrap(), Predictor::built_in().unwrap(), &typical()).unwrap()
}

fn answer(id: &str) -> Answer {
    answers(id).remove(0)
}

fn find(answer: &Answer, of: Of, basis: Basis) -> Aspect {
    let found = answer.aspects.iter().find(|a| a.of == of && a.basis == basis);
    found.unwrap_or_else(|| panic!("{of} in {:?}", answer.aspects)).clone()
}

fn aspect(answer: &Answer, of: Of, basis: Basis) -> (Option<f64>, Verdict) {
    let found = find(answer, of, basis);
    (found.value, found.judgement.verdict)
}

fn near(value: Option<f64>, wanted: f64) -> bool {
    value.is_some_and(|v| (v / wanted - 1.0).abs() < 0.02)
}

#[test]
fn seven_statements_come_with_the_program_and_all_are_answered() {
    let claims = claims::built_in().unwrap();
    assert_eq!(claims.len(), 7);
    for claim in &claims {
        for answer in answers(&claim.id) {
            assert!(
                answer.aspects.iter().any(|a| a.judgement.verdict != Verdict::NotClaimed),
                "{}",
                claim.id
            );
            for a in &answer.aspects {
                for figure in a.subject.iter().chain(&a.reference) {
                    assert!(!figure.source.is_empty() && figure.value > 0.0, "{}: {a:?}", claim.id);
                }
                if let (Some(value), Some(i)) = (a.value, a.interval) {
                    assert!(i.low <= value && value <= i.high, "{}: {a:?}", claim.id);
                }
                let unknown = a.judgement.verdict == Verdict::CannotBeKnown;
                assert_eq!(unknown, a.judgement.why.as_ref().is_some_and(|w| !w.is_empty()), "{a:?}");
            }
        }
    }
}

#[test]
fn the_ratio_of_atlas_350_is_that_of_no_shared_figure() {
    let a = answer("atlas-350-h20");
    assert_eq!(aspect(&a, Of::Peak(DataType::Fp4), Basis::DataSheet), (None, Verdict::CannotBeKnown));
    assert_eq!(aspect(&a, Of::Peak(DataType::Fp8), Basis::DataSheet), (None, Verdict::CannotBeKnown));
    let (bandwidth, verdict) = aspect(&a, Of::Bandwidth, Basis::DataSheet);
    assert!(near(bandwidth, 0.35) && verdict == Verdict::DoesNotHold);
    let (fp8, verdict) = aspect(&a, Of::Peak(DataType::Fp8), Basis::Given);
    assert!(near(fp8, 2.635) && verdict == Verdict::DoesNotHold);
    assert!(
        a.suspicions.iter().any(|s| s.contains("nvidia-h20-96 has no known peak of fp4")),
        "{:?}",
        a.suspicions
    );
    assert!(a.aspects.iter().any(|x| x.name.contains("weights in fp4")));
}

#[test]
fn s5000_is_about_half_of_h100_and_a_quarter_only_of_its_sparse_peak() {
    let a = answer("s5000-h100");
    let (fp8, verdict) = aspect(&a, Of::Peak(DataType::Fp8), Basis::DataSheet);
    assert!(near(fp8, 0.517) && verdict == Verdict::DoesNotHold);
    let sparse = "0.25 fits fp8 if the peak of nvidia-h100-sxm is doubled";
    assert!(a.suspicions.iter().any(|s| s.starts_with(sparse)), "{:?}", a.suspicions);
}

#[test]
fn cloudmatrix_is_ahead_for_each_operation_in_prefill_and_behind_in_decode() {
    use autarky_plan::runs::Kind;
    let a = answer("cloudmatrix-h100");
    let (prefill, verdict) = aspect(&a, Of::PerPeak(Kind::Prefill), Basis::Measured);
    assert!(near(prefill, 1.40) && verdict == Verdict::Holds, "{prefill:?}");
    let (decode, verdict) = aspect(&a, Of::PerPeak(Kind::Decode), Basis::Measured);
    assert!(near(decode, 0.918) && verdict == Verdict::DoesNotHold, "{decode:?}");
    assert!(near(aspect(&a, Of::Work(Kind::Decode), Basis::Measured).0, 0.698));
}

#[test]
fn the_910c_is_above_the_claimed_range_on_peak() {
    let a = answer("ascend-910c-h100");
    let (bf16, verdict) = aspect(&a, Of::Peak(DataType::Bf16), Basis::DataSheet);
    assert!(near(bf16, 0.76) && verdict == Verdict::DoesNotHold);
    let prefill = find(&a, Of::Work(autarky_plan::runs::Kind::Prefill), Basis::Measured);
    assert!(prefill.interval.is_some_and(|i| i.low < 0.4 && i.high > 1.0), "{prefill:?}");
}

#[test]
fn h20_is_poor_for_training_on_paper_and_has_bandwidth_for_decode() {
    use autarky_plan::runs::Kind;
    let a = answer("h20-h100");
    assert_eq!(aspect(&a, Of::Peak(DataType::Bf16), Basis::DataSheet).1, Verdict::Holds);
    assert_eq!(aspect(&a, Of::Bandwidth, Basis::DataSheet).1, Verdict::Holds);
    assert_ne!(aspect(&a, Of::Work(Kind::Train), Basis::Predicted).1, Verdict::DoesNotHold);
    let (bytes, verdict) = aspect(&a, Of::OpsPerByte, Basis::DataSheet);
    assert!(near(bytes, 37.0 / 295.2) && verdict == Verdict::NotClaimed);
    // In large batches it is arithmetic that limits decode.
    let (decode, _) = aspect(&a, Of::Work(Kind::Decode), Basis::Measured);
    assert!(decode.is_some_and(|r| r < 0.3), "{decode:?}");
}

#[test]
fn int8_falls_by_more_than_twenty_from_b200_to_b300() {
    let a = answer("b300-b200");
    let (int8, verdict) = aspect(&a, Of::Peak(DataType::Int8), Basis::DataSheet);
    assert!(int8.is_some_and(|r| r < 1.0 / 20.0) && verdict == Verdict::DoesNotHold);
    assert_eq!(aspect(&a, Of::Peak(DataType::Fp4), Basis::DataSheet).1, Verdict::Holds);
    assert_eq!(aspect(&a, Of::Capacity, Basis::DataSheet).1, Verdict::Holds);
}

#[test]
fn fp6_decides_the_tpp_of_both_mi350s() {
    let both = answers("mi350-tpp");
    assert_eq!(both.len(), 2);
    for a in both {
        let tpp = |name: &str| a.aspects.iter().find(|x| x.name.starts_with(name)).unwrap();
        assert_eq!(tpp("TPP from fp8").judgement.verdict, Verdict::Holds);
        assert_eq!(tpp("TPP from fp6").judgement.verdict, Verdict::DoesNotHold);
        let rule = tpp("TPP as the rule counts it, from fp6");
        assert!(rule.value.is_some_and(|v| (55_000.0..61_000.0).contains(&v)));
    }
}

const OWN: &str = "id = \"a\"\nstatement = \"a is twice b\"\nsaid_by = \"x\"\nsource = \"y\"\nconfidence = \"press\"\n\
                   subject = \"nvidia-h100-sxm\"\nreference = \"nvidia-a100-sxm-80\"\n[[says]]\nratio = 2\n";

#[test]
fn a_bad_file_is_refused_by_field_and_reason() {
    assert!(Claim::parse("own.toml", OWN).is_ok());
    for (from, to, field, reason) in [
        ("ratio = 2", "", "says[0].ratio", "missing"),
        ("ratio = 2", "ratio = -2", "says[0].ratio", "above zero"),
        ("ratio = 2", "ratio = nan", "says[0].ratio", "above zero"),
        ("ratio = 2", "ratio = 2\nlow = 1", "says[0].ratio", "does not go with"),
        ("ratio = 2", "low = 3\nhigh = 2", "says[0].low", "above `high`"),
        ("ratio = 2", "ratio = 2\nof = [\"bandwith\"]", "says[0].of", "nearest: bandwidth"),
        ("statement = \"a is twice b\"", "statement = \" \"", "statement", "empty"),
        ("subject = \"nvidia-h100-sxm\"", "", "subject", "missing"),
        ("confidence = \"press\"", "confidence = \"sure\"", "confidence", "unknown variant"),
    ] {
        let error = Claim::parse("own.toml", &OWN.replace(from, to)).unwrap_err();
        let DataError::Field { file, field: at, reason: why } = &error else { panic!("{error}") };
        assert_eq!((file.as_str(), at.as_str()), ("own.toml", field), "{error}");
        assert!(why.contains(reason), "{error}");
    }
}

#[test]
fn an_unknown_chip_is_answered_with_near_names() {
    let claim = Claim::parse("own.toml", &OWN.replace("nvidia-h100-sxm", "nvidia-h1000-sxm")).unwrap();
    let error = check(&claim, Catalog::built_in().unwrap(), Predictor::built_in().unwrap(), &[])
        .unwrap_err()
        .to_string();
    assert!(error.contains("nvidia-h100-sxm"), "{error}");
}

#[test]
fn a_page_holds_every_answer() {
    let all: Vec<Answer> = claims::built_in().unwrap().iter().flat_map(|c| answers(&c.id)).collect();
    let html = claims::page(&all).html();
    assert!(html.contains("Atlas 350 computes 2.87 times") && html.contains("class=\"chart\""));
    assert!(html.len() < 1 << 20, "{}", html.len());
}
