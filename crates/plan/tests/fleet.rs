//! Fleets and jobs.

use autarky_plan::fit::Predictor;
use autarky_plan::fleet::{self, Fleet, Plan};
use autarky_plan::{Catalog, DataError, Error};

const FLEET: &str = r#"
[[chips]]
chip = "nvidia-h100-sxm"
count = 8

[[chips]]
chip = "huawei-ascend-910c"
count = 8

[[jobs]]
name = "chat"
kind = "serve"
model = "Qwen3-32B"
priority = 1
tokens_per_s = 3000
concurrency = 128

[[jobs]]
name = "tune"
kind = "train"
model = "Meta-Llama-3.1-8B"
priority = 2
tokens = 1e9
days = 2

[[jobs]]
name = "giant"
kind = "serve"
model = "DeepSeek-V3"
priority = 3
tokens_per_s = 1000000
"#;

fn plan(text: &str) -> Result<Plan, Error> {
    let fleet = Fleet::parse("fleet.toml", text).unwrap();
    fleet::plan(&fleet, "fleet.toml", Catalog::built_in().unwrap(), Predictor::built_in().unwrap())
}

#[test]
fn jobs_that_can_run_do_and_no_chip_runs_twice() {
    let p = plan(FLEET).unwrap();
    let names: Vec<&str> = p.assigned.iter().map(|a| a.job.as_str()).collect();
    assert_eq!(names, ["chat", "tune"]);
    assert!(p.exact);
    for (i, u) in p.chips.iter().enumerate() {
        let parts = p.assigned.iter().flat_map(|a| &a.parts).filter(|part| part.pool == i);
        let used: f64 = parts.map(|part| part.chips).sum();
        assert!(used == u.used && used <= u.count, "{u:?}");
    }
    for a in &p.assigned {
        assert!(
            a.tokens_per_s >= a.wanted * 0.999 && a.low <= a.tokens_per_s && a.tokens_per_s <= a.high,
            "{a:?}"
        );
    }
}

#[test]
fn a_job_that_cannot_run_says_why_on_each_kind_of_chip() {
    let p = plan(FLEET).unwrap();
    assert_eq!(p.unmet[0].job, "giant");
    let reason = &p.unmet[0].reason;
    assert!(reason.contains("nvidia-h100-sxm") && reason.contains("huawei-ascend-910c"), "{reason}");
    assert!(reason.contains("too slow") || reason.contains("needs"), "{reason}");
}

#[test]
fn two_vendors_on_one_job_are_weighed() {
    let p = plan(FLEET).unwrap();
    let chat = p.joint.iter().find(|j| j.job == "chat").unwrap();
    assert!(chat.two_vendors);
    let (a, b) = (chat.alone.0.unwrap(), chat.alone.1.unwrap());
    assert!(chat.by_service.unwrap() > 0.0 && chat.by_pipeline.unwrap() > 0.0);
    assert!(chat.by_service.unwrap() < 2.0 * (a + b));
    assert!(chat.gain.is_some() && !chat.advice.is_empty());
    // Neither eight H100 nor training is split.
    assert!(p.joint.iter().find(|j| j.job == "tune").unwrap().by_pipeline.is_none());
}

#[test]
fn a_bad_file_is_refused_by_field_and_reason() {
    for (from, to, field, reason) in [
        ("count = 8", "count = 0", "chips[0].count", "1 to 1000000"),
        ("kind = \"serve\"", "kind = \"mine\"", "jobs[0].kind", "serve or train"),
        ("tokens_per_s = 3000", "", "jobs[0].tokens_per_s", "missing"),
        ("tokens_per_s = 3000", "tokens_per_s = nan", "jobs[0].tokens_per_s", "can be"),
        ("days = 2", "days = 2\ninput = 5", "jobs[1].input", "does not go with"),
        ("priority = 1", "priority = 0", "jobs[0].priority", "1, which goes first"),
        ("name = \"tune\"", "name = \"chat\"", "jobs[1].name", "another job"),
        ("concurrency = 128", "format = \"bf17\"", "jobs[0].format", "bf16"),
        ("concurrency = 128", "concurency = 128", "jobs.concurency", "unknown field"),
    ] {
        let error = Fleet::parse("fleet.toml", &FLEET.replacen(from, to, 1)).unwrap_err();
        let DataError::Field { file, field: at, reason: why } = &error else { panic!("{error}") };
        assert_eq!((file.as_str(), at.as_str()), ("fleet.toml", field), "{error}");
        assert!(why.contains(reason), "{error}");
    }
}

#[test]
fn unknown_chips_and_models_are_answered_with_near_names() {
    let error = plan(&FLEET.replace("nvidia-h100-sxm", "nvidia-h1000-sxm")).unwrap_err().to_string();
    assert!(error.starts_with("fleet.toml: chips[0].chip:") && error.contains("nvidia-h100-sxm"), "{error}");
    let error = plan(&FLEET.replace("Qwen3-32B", "Qwen3-33B")).unwrap_err().to_string();
    assert!(error.starts_with("fleet.toml: jobs[0].model:") && error.contains("Qwen3-32B"), "{error}");
}
