//! Chips: what comes with the program is sound, what is not is refused by file and field, names find their chip.

use std::fs;

use autarky_plan::chips::{Class, Field, Origin};
use autarky_plan::{Catalog, Chip, DataError, DataType, FindError};

/// A sound file with everything that checks look at.
const SOUND: &str = r#"
id = "x-1"
name = "X 1"
vendor = "X"
year = 2025
status = "shipping"
class = "datacenter-accelerator"
die_area_mm2 = 500
tpp = 8000
tpp_from = "fp8"
performance_density = 16

[peak_dense_tops]
fp32 = 50
bf16 = 500
fp8 = 1000
int8 = 100

[memory]
type = "HBM3"
capacity_gib = 64
usable_mib = 65000
bandwidth_gb_s = 3200

[price_usd]
low = 9000
value = 10000
high = 12000

[sources]
peak_dense_tops = { source = "sheet", confidence = "vendor" }
memory = { source = "sheet", confidence = "vendor" }
die_area_mm2 = { source = "teardown", confidence = "third-party" }
price_usd = { source = "quote", confidence = "weak" }
tpp = { source = "computed", confidence = "derived" }
performance_density = { source = "computed", confidence = "derived" }
"#;

fn chip(text: &str) -> Result<Chip, DataError> {
    Chip::parse("mine/x-1.toml", text)
}

/// The field and the reason that a file is refused for.
#[track_caller]
fn refused(text: &str) -> (String, String) {
    match chip(text) {
        Err(DataError::Field { file, field, reason }) => {
            assert_eq!(file, "mine/x-1.toml");
            (field, reason)
        }
        other => panic!("{other:?} for {text}"),
    }
}

#[test]
fn every_chip_that_comes_with_the_program_is_sound() {
    let catalog = Catalog::built_in().unwrap();
    assert_eq!(catalog.chips().len(), 128);
    assert!(catalog.chips().is_sorted_by(|a, b| a.id < b.id), "ids are unique");
    for chip in catalog.chips() {
        assert_eq!(chip.origin, Origin::BuiltIn);
        assert_eq!(catalog.find(&chip.id).unwrap().id, chip.id);
        for field in Field::ALL {
            assert_eq!(chip.has(field), chip.sources.contains_key(&field), "{} {}", chip.id, field.name());
        }
    }
}

#[test]
fn figures_that_rules_look_at_are_those_published() {
    let catalog = Catalog::built_in().unwrap();
    for (id, tpp, density) in [
        ("nvidia-h100-sxm", 15_832.0, Some(19.45)),
        ("nvidia-a100-sxm-80", 4_992.0, Some(6.04)),
        ("nvidia-h20-96", 2_368.0, Some(2.91)),
        ("huawei-ascend-910c", 12_032.0, Some(9.05)),
        // FP6 runs at the rate of FP4, so it gives half as much again.
        ("amd-mi355x", 60_396.0, None),
    ] {
        let chip = catalog.find(id).unwrap();
        assert!((chip.tpp().unwrap() - tpp).abs() < 0.5, "{id} {:?}", chip.tpp());
        let rounded = chip.performance_density().map(|d| (d * 100.0).round() / 100.0);
        assert_eq!(rounded, density, "{id}");
    }
    assert_eq!(catalog.find("nvidia-h100-sxm").unwrap().io_bandwidth_bidir_gb_s(), Some(1026.0));
    let xeon = catalog.find("intel-xeon-6980p").unwrap();
    assert_eq!(xeon.io_bandwidth_bidir_gb_s(), None, "nothing is known of a CPU's lanes");
    let system = catalog.find("huawei-cloudmatrix-384").unwrap();
    assert_eq!(
        (system.class, system.tpp()),
        (Class::System, None),
        "a sum over chips means nothing to rules"
    );
}

#[test]
fn tf32_counts_for_nothing_and_fp6_at_six_bits() {
    let text = |peaks: &str| {
        format!(
            "id = \"x-1\"\nname = \"X\"\nvendor = \"X\"\nstatus = \"shipping\"\nclass = \"inference-card\"\n\
             [peak_dense_tops]\n{peaks}\n[sources]\npeak_dense_tops = {{ source = \"s\", confidence = \"weak\" }}\n"
        )
    };
    let tpp = |peaks: &str| chip(&text(peaks)).unwrap().peak_dense_tops.tpp();
    assert_eq!(tpp("tf32 = 100"), None);
    assert_eq!(tpp("tf32 = 100\nbf16 = 100"), Some((1600.0, DataType::Bf16)));
    assert_eq!(tpp("fp8 = 10\nfp6 = 20\nfp4 = 20"), Some((120.0, DataType::Fp6)));
}

#[test]
fn what_cannot_be_is_refused_by_file_field_and_reason() {
    assert_eq!(chip(SOUND).unwrap().tpp(), Some(8000.0));
    for (from, to, field, reason) in [
        ("id = \"x-1\"", "id = \"x-2\"", "id", "file's name"),
        ("id = \"x-1\"", "id = \"X 1\"", "id", "lower-case"),
        ("name = \"X 1\"", "name = \" \"", "name", "empty"),
        ("name = \"X 1\"\n", "", "name", "missing field"),
        ("year = 2025", "year = 25", "year", "2000 to 2100"),
        ("year = 2025", "yaer = 2025", "yaer", "unknown field"),
        ("status = \"shipping\"", "status = \"sold\"", "status", "unknown variant"),
        ("fp8 = 1000", "fp8 = nan", "peak_dense_tops.fp8", "NaN"),
        ("fp8 = 1000", "fp8 = -1", "peak_dense_tops.fp8", "-1"),
        ("fp8 = 1000", "fp8 = 0", "peak_dense_tops.fp8", "is 0"),
        ("fp8 = 1000", "fp8 = inf", "peak_dense_tops.fp8", "inf"),
        ("fp8 = 1000", "fp8 = \"fast\"", "peak_dense_tops.fp8", "invalid type"),
        ("fp8 = 1000", "fp12 = 1000", "peak_dense_tops.fp12", "unknown field"),
        ("fp8 = 1000", "fp8 = 400", "peak_dense_tops.fp8", "below bf16 at 500"),
        ("capacity_gib = 64", "capacity_gib = 64e9", "memory.capacity_gib", "check the unit"),
        ("usable_mib = 65000", "usable_mib = 68000", "memory.usable_mib", "more than capacity_gib"),
        ("bandwidth_gb_s = 3200", "bandwidth_gb_s = 32000", "memory.bandwidth_gb_s", "factor of ten"),
        ("high = 12000", "high = 8000", "price_usd", "must not fall"),
        ("low = 9000\nvalue = 10000\nhigh = 12000", "", "price_usd", "neither"),
        ("tpp = 8000", "tpp = 7900", "tpp", "bf16 gives 8000"),
        ("tpp_from = \"fp8\"", "tpp_from = \"int8\"", "tpp_from", "does not give"),
        ("performance_density = 16", "performance_density = 15", "performance_density", "gives 16.00"),
        ("memory = { source = \"sheet\", confidence = \"vendor\" }\n", "", "sources.memory", "is missing"),
        ("die_area_mm2 = 500", "", "sources.die_area_mm2", "source for nothing"),
        ("source = \"quote\"", "source = \"\"", "sources.price_usd", "empty"),
        ("confidence = \"weak\"", "confidence = \"sure\"", "sources.price_usd", "unknown variant"),
        ("class = \"datacenter-accelerator\"", "class = \"system\"", "tpp", "no meaning for a system"),
    ] {
        assert!(SOUND.contains(from), "{from}");
        let (f, r) = refused(&SOUND.replacen(from, to, 1));
        assert!(f == field && r.contains(reason), "{to}: {f}: {r}");
    }
    let (_, reason) = refused("id = \n");
    assert!(reason.contains("line 1"), "{reason}");
}

#[test]
fn the_example_in_the_documentation_is_sound() {
    let page = include_str!("../../../docs/plan.md");
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let chip = Chip::parse("acme-1.toml", example).unwrap();
    assert_eq!((chip.tpp(), chip.io_bandwidth_bidir_gb_s()), (Some(1920.0), Some(226.0)));
}

#[test]
fn a_cut_in_int8_is_no_contradiction() {
    let chip = Catalog::built_in().unwrap().find("nvidia-b300-sxm").unwrap();
    assert!(chip.peak_dense_tops.int8 < chip.peak_dense_tops.bf16);
}

#[test]
fn nothing_of_a_file_makes_the_parser_panic() {
    for end in (0..SOUND.len()).filter(|&i| SOUND.is_char_boundary(i)) {
        let _ = chip(&SOUND[..end]);
    }
    let nested = format!("name = {}", "[".repeat(20_000));
    assert!(chip(&nested).is_err());
    let long = format!("notes = \"{}\"", "x".repeat(300 << 10));
    assert!(matches!(chip(&long), Err(DataError::Read { .. })), "too long to be a chip's file");
}

#[test]
fn a_folder_adds_chips_and_replaces_those_with_the_same_id() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x-1.toml"), SOUND).unwrap();
    fs::write(folder.path().join("README.md"), "no chip").unwrap();
    let built_in = Catalog::built_in().unwrap();
    let catalog = built_in.with_folder(folder.path()).unwrap();
    assert_eq!(catalog.chips().len(), 129);
    let own = catalog.find("X 1").unwrap();
    assert_eq!(own.origin, Origin::File(folder.path().join("x-1.toml")));

    let t4 = SOUND.replace("x-1", "nvidia-t4");
    fs::write(folder.path().join("nvidia-t4.toml"), t4).unwrap();
    let catalog = built_in.with_folder(folder.path()).unwrap();
    assert_eq!(catalog.chips().len(), 129);
    assert_eq!(catalog.find("nvidia-t4").unwrap().vendor, "X");

    fs::write(folder.path().join("bad.toml"), "id = 3").unwrap();
    let error = built_in.with_folder(folder.path()).unwrap_err().to_string();
    assert!(error.contains("bad.toml") && error.contains("id"), "{error}");
    let missing = built_in.with_folder(&folder.path().join("none")).unwrap_err().to_string();
    assert!(missing.contains("none: cannot be read"), "{missing}");
    fs::remove_file(folder.path().join("bad.toml")).unwrap();
    fs::create_dir(folder.path().join("bad.toml")).unwrap();
    let error = built_in.with_folder(folder.path()).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
}

#[test]
fn names_are_found_however_they_are_typed() {
    let catalog = Catalog::built_in().unwrap();
    for (asked, id) in [
        ("nvidia-h100-sxm", "nvidia-h100-sxm"),
        ("NVIDIA-H100-SXM", "nvidia-h100-sxm"),
        ("h100 sxm5 80gb", "nvidia-h100-sxm"),
        ("Ascend 910C (752T)", "huawei-ascend-910c"),
        ("910b3", "huawei-ascend-910b3"),
        ("geforce rtx 4090", "nvidia-rtx-4090"),
        (" L4 ", "nvidia-l4"),
        ("l40", "nvidia-l40"),
        ("910C", "huawei-ascend-910c"),
        ("RTX 4090", "nvidia-rtx-4090"),
    ] {
        assert_eq!(catalog.find(asked).unwrap().id, id, "{asked}");
    }
}

#[test]
fn names_that_fit_none_or_many_are_answered_with_ids() {
    let catalog = Catalog::built_in().unwrap();
    match catalog.find("acsend-910b3") {
        Err(FindError::Unknown { nearest, .. }) => assert_eq!(nearest[0], "huawei-ascend-910b3"),
        other => panic!("{other:?}"),
    }
    match catalog.find("mi300") {
        Err(FindError::Ambiguous { candidates, .. }) => assert_eq!(candidates, ["amd-mi300a", "amd-mi300x"]),
        other => panic!("{other:?}"),
    }
    for none in ["", "  ", "---", &"x".repeat(10_000)] {
        assert!(matches!(catalog.find(none), Err(FindError::Unknown { .. })), "{none:.10}");
    }
}
