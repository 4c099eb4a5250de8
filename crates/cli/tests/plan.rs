//! `autarky plan`: chips, rules and verdicts as a user asks for them.

mod support;

use std::ffi::OsStr;
use std::fs;

use support::{Ran, command, ran};

/// A chip of somebody's own.
const OWN: &str = "id = \"acme-1\"\nname = \"Acme One\"\nvendor = \"Acme\"\nstatus = \"shipping\"\n\
                   class = \"inference-card\"\n[peak_dense_tops]\nbf16 = 120\n[sources]\n\
                   peak_dense_tops = { source = \"sheet\", confidence = \"vendor\" }\n";

/// Runs `autarky` where nobody has chips of their own.
fn autarky<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    ran(command(args).env("HOME", "").env("AUTARKY_CHIPS", "").output().unwrap())
}

#[test]
fn chips_are_filtered_sorted_and_printed_in_three_ways() {
    let text = autarky(["plan", "chips", "--vendor", "HUAWEI", "--sort", "bandwidth"]).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("id ") && lines[0].ends_with("USD"), "{}", lines[0]);
    assert!(lines[1].starts_with("huawei-atlas-950-superpod"), "{}", lines[1]);
    assert!(lines[1..].iter().all(|l| l.contains("Huawei")));

    let csv = autarky(["plan", "chips", "--class", "consumer-gpu", "--csv"]).ok();
    let header = "id,vendor,year,bf16_tops,fp8_tops,int8_tops,memory_gib,bandwidth_gb_s,tdp_w,price_usd";
    assert_eq!(csv.lines().next(), Some(header));
    assert!(csv.contains("\nnvidia-rtx-4090,NVIDIA,2022,165.2,660.6,660.6,24,1008,450,1599\n"), "{csv}");

    let json = autarky(["plan", "chips", "--json"]).json();
    assert_eq!(json.as_array().unwrap().len(), 128);
    let h100 = json.as_array().unwrap().iter().find(|c| c["id"] == "nvidia-h100-sxm").unwrap();
    assert_eq!((&h100["bf16_tops"], &h100["memory_gib"]), (&989.into(), &80.into()));

    assert!(autarky(["plan", "chips", "--class", "toaster"]).fails(2).contains("consumer-gpu"));
    assert!(autarky(["plan", "chips", "--vendor", "acme"]).fails(2).contains("NVIDIA"));
}

#[test]
fn a_chip_is_shown_with_sources_and_what_rules_say_of_it() {
    let text = autarky(["plan", "chip", "h100-sxm"]).ok();
    for part in [
        "H100 SXM5 80GB (nvidia-h100-sxm)",
        "bf16 989",
        "3350 GB/s  [vendor-via-third-party]",
        "15832 (from fp8)",
        "peak_dense_tops      third-party: github stas00",
        "not legal advice",
        "us-2023-10-17      3A090.a",
        "2022-10-07",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(text.matches("not legal advice").count(), 1);
    let json = autarky(["plan", "chip", "NVIDIA-H20-96", "--json"]).json();
    assert_eq!(json["chip"]["memory"]["bandwidth_gb_s"], 4000.0);
    assert_eq!(json["policy"]["verdicts"][1]["verdict"], "not 3A090");
    assert_eq!(json["policy"]["known"]["id"], "nvidia-h20-96");
}

#[test]
fn every_chip_can_be_shown() {
    for chip in autarky(["plan", "chips", "--json"]).json().as_array().unwrap() {
        let id = chip["id"].as_str().unwrap();
        assert!(autarky(["plan", "chip", id]).ok().contains(id));
    }
}

#[test]
fn a_name_that_fits_none_or_many_is_answered_with_ids() {
    let unknown = autarky(["plan", "chip", "nvidia-h1000-sxm"]).fails(2);
    assert!(unknown.contains("nearest: nvidia-h100-sxm"), "{unknown}");
    let many = autarky(["plan", "policy", "mi300"]).fails(2);
    assert!(many.contains("amd-mi300a, amd-mi300x"), "{many}");
}

#[test]
fn own_chips_come_from_flag_variable_and_home() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".config/autarky/chips");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("acme-1.toml"), OWN).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let own = |args: &[&str], variable: &str| {
        let mut command = command(["plan", "chip", "acme-1", "--json"]);
        command.args(args).env("HOME", home.path()).env("AUTARKY_CHIPS", variable);
        ran(command.output().unwrap())
    };
    assert_eq!(own(&[], "").json()["chip"]["vendor"], "Acme");
    let (empty, full) = (empty.path().to_str().unwrap(), folder.to_str().unwrap());
    own(&[], empty).fails(2);
    assert!(own(&["--chips", full], empty).json()["file"].as_str().unwrap().ends_with("acme-1.toml"));

    fs::write(folder.join("acme-1.toml"), OWN.replace("bf16 = 120", "bf16 = -1\u{1b}[2J")).unwrap();
    let message = own(&["--chips", full], empty).fails(3);
    assert!(
        message.contains("acme-1.toml: peak_dense_tops.bf16: ") && !message.contains('\u{1b}'),
        "{message}"
    );
    assert!(own(&["--chips", "absent"], "").fails(3).contains("absent: cannot be read"));
}

#[test]
fn rules_are_listed_as_they_stood_on_a_day() {
    let csv = autarky(["plan", "rules", "--on", "2023-11-16", "--csv"]).ok();
    assert!(csv.contains("us-2022-10-07,rule,US,2022-10-07,in force,"), "{csv}");
    let csv = autarky(["plan", "rules", "--on", "2023-11-17", "--csv"]).ok();
    assert!(csv.contains("us-2022-10-07,rule,US,2022-10-07,superseded,"), "{csv}");
    assert!(csv.contains("us-2026-01-15,rule,US,2026-01-15,not yet,"), "{csv}");
    let csv = autarky(["plan", "rules", "--on", "2026-06-01", "--csv"]).ok();
    assert!(csv.contains("cn-2025-07-31,event,China,2025-07-31,past,"), "{csv}");
    let text = autarky(["plan", "rules", "--text"]).ok();
    assert!(text.contains("88 FR 73458") && text.contains("performance density (PD)"), "{text}");
    let json = autarky(["plan", "rules", "--json"]).json();
    assert_eq!(json["rules"].as_array().unwrap().len(), 25);
    assert!(autarky(["plan", "rules", "--on", "yesterday"]).fails(2).contains("YYYY-MM-DD"));
}

#[test]
fn figures_are_judged_with_their_distance_from_each_line() {
    let on = ["--on", "2026-06-01"];
    let args = ["plan", "policy", "--tpp", "4799.9", "--die-area", "3100", "--dram-bandwidth", "1400"];
    let text = autarky(args.iter().chain(&on)).ok();
    assert!(text.contains("us-2023-10-17") && text.contains("  not 3A090\n"), "{text}");
    assert!(text.contains("TPP 4799.9 is below 4800 by 0.1 (0.0 %)"), "{text}");
    assert!(text.contains("DRAM GB/s 1400 is at or above 1400 by 0 (0.0 %)"), "{text}");
    assert!(text.contains("I/O GB/s, both directions is unknown"), "{text}");

    let json = autarky(["plan", "policy", "--tpp", "2000", "--json"].iter().chain(&on)).json();
    let rule =
        |id: &str| json["verdicts"].as_array().unwrap().iter().find(|v| v["rule"] == id).unwrap().clone();
    assert_eq!(rule("us-2023-10-17")["needs"], serde_json::json!(["die_area"]));
    assert_eq!(rule("us-2022-10-07")["verdict"], "not 3A090", "a TPP below 4800 decides by itself");
    assert_eq!(rule("us-2022-10-07")["standing"], "superseded");

    let cut = autarky(["plan", "policy", "nvidia-a100-sxm-80", "--io-bandwidth", "462", "--json"]).json();
    assert_eq!(cut["verdicts"][0]["verdict"], "not 3A090");
    let whole = autarky(["plan", "policy", "nvidia-a100-sxm-80", "--json"]).json();
    assert_eq!(whole["verdicts"][0]["verdict"], "3A090");
    let consumer = autarky(["plan", "policy", "--tpp", "4900", "--consumer", "--csv"]).ok();
    assert!(consumer.contains(",\"3A090.a (non-data-centre, NAC path)\","), "{consumer}");
}

#[test]
fn what_became_of_a_chip_ends_on_the_day_that_is_asked_for() {
    let before = autarky(["plan", "policy", "nvidia-h20-96", "--on", "2025-04-08"]).ok();
    assert!(before.contains("free of a licence") && !before.contains("licence needed (letter)"), "{before}");
    let after = autarky(["plan", "policy", "nvidia-h20-96", "--on", "2025-04-09"]).ok();
    assert!(after.contains("licence needed (letter)") && after.contains("at or above"), "{after}");
}

#[test]
fn figures_that_cannot_be_are_refused() {
    assert!(autarky(["plan", "policy"]).fails(2).contains("--tpp"));
    for bad in ["nan", "inf", "-1", "0"] {
        let flag = format!("--tpp={bad}");
        assert!(autarky(["plan", "policy", &flag]).fails(2).contains("--tpp"), "{bad}");
    }
}
