//! Every kind of reward, on good and on bad answers.

use std::fs;

use autarky_train::config::Config;
use autarky_train::reward::{Answered, RewardError, Rewards};
use serde_json::{Map, Value as Json, json};

fn rewards(toml: &str) -> Result<Rewards, RewardError> {
    Rewards::new(&Config::from_toml(toml, "test").unwrap().reward)
}

/// What an answer to a record is worth.
fn judge(toml: &str, record: &Json, answers: &[&str]) -> Result<Vec<f64>, RewardError> {
    let record: Map<String, Json> = record.as_object().unwrap().clone();
    let answered: Vec<Answered<'_>> =
        answers.iter().map(|answer| Answered { prompt: "asked", answer, record: &record }).collect();
    rewards(toml)?.judge(&answered)
}

#[test]
fn exact_compares_the_answer_or_what_a_pattern_finds_in_it() {
    let exact = "[[reward]]\nkind = 'exact'\n";
    let record = json!({"answer": "42", "other": 7, "list": []});
    assert_eq!(
        judge(exact, &record, &["42", " 42\n", "4 2", "", "it is 42"]).unwrap(),
        [1.0, 1.0, 0.0, 0.0, 0.0]
    );
    let other = format!("{exact}field = 'other'\nweight = 0.5\n");
    assert_eq!(judge(&other, &record, &["7", "7.0"]).unwrap(), [0.5, 0.0]);
    let pattern = format!("{exact}pattern = '<answer>(.*?)</answer>'\n");
    let answers = ["<answer>42</answer>", "<answer>1</answer> no, <answer> 42 </answer>", "42"];
    assert_eq!(judge(&pattern, &record, &answers).unwrap(), [1.0, 1.0, 0.0]);
    for field in ["list", "missing"] {
        let error = judge(&format!("{exact}field = '{field}'\n"), &record, &["42"]).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn numbers_are_compared_as_numbers() {
    let number = "[[reward]]\nkind = 'number'\n";
    let record = json!({"answer": "so there are 1,250 of them #### 1250"});
    let answers = ["It is 1250.", "1,250", "1250.0", "first 1250, then 3", "-1250", "none"];
    assert_eq!(judge(number, &record, &answers).unwrap(), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    assert!(judge(number, &json!({"answer": "none"}), &["1"]).is_err());
}

#[test]
fn regexes_are_of_the_run_or_of_the_record() {
    let record = json!({"wanted": "^[ab]+$", "broken": "(", "number": 3});
    let same = "[[reward]]\nkind = 'regex'\npattern = '(?i)yes'\n";
    assert_eq!(judge(same, &record, &["Yes!", "no"]).unwrap(), [1.0, 0.0]);
    let field = |name: &str| format!("[[reward]]\nkind = 'regex'\nfield = '{name}'\n");
    assert_eq!(judge(&field("wanted"), &record, &["abba", "abc", "b"]).unwrap(), [1.0, 0.0, 1.0]);
    for name in ["broken", "number", "missing"] {
        assert!(judge(&field(name), &record, &["a"]).is_err(), "{name}");
    }
}

#[test]
fn json_is_what_a_schema_allows() {
    let allowed = |schema: Json, answers: &[&str]| {
        let toml = "[[reward]]\nkind = 'json-schema'\nfield = 'schema'\n";
        judge(toml, &json!({"schema": schema}), answers)
            .map(|all| all.iter().map(|r| *r == 1.0).collect::<Vec<_>>())
    };
    let person = json!({
        "$defs": {"name": {"type": "string", "minLength": 1, "pattern": "^[A-Z]"}},
        "type": "object",
        "properties": {
            "name": {"$ref": "#/$defs/name"},
            "age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 150},
            "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "maxItems": 2, "uniqueItems": true},
        },
        "required": ["name"],
        "additionalProperties": false,
    });
    let answers = [
        (r#" {"age": 3, "name": "Ada", "tags": ["x", "y"]} "#, true),
        (r#"{"name": "Ada"}"#, true),
        (r#"{"name": "Ada", "age": 3.0}"#, true),
        (r#"{"name": "ada"}"#, false),
        (r#"{"name": ""}"#, false),
        (r#"{"age": 3}"#, false),
        (r#"{"name": "Ada", "age": 150}"#, false),
        (r#"{"name": "Ada", "age": 3.5}"#, false),
        (r#"{"name": "Ada", "tags": ["x", "x"]}"#, false),
        (r#"{"name": "Ada", "tags": ["z"]}"#, false),
        (r#"{"name": "Ada", "more": 1}"#, false),
        (r#"["Ada"]"#, false),
        (r#"{"name": "Ada""#, false),
        ("here you are: {\"name\": \"Ada\"}", false),
        ("", false),
    ];
    let (texts, wanted): (Vec<&str>, Vec<bool>) = answers.into_iter().unzip();
    assert_eq!(allowed(person, &texts).unwrap(), wanted);
    for (schema, answers, wanted) in [
        (json!(true), ["1", "x"], [true, false]),
        (json!(false), ["1", "x"], [false, false]),
        (json!({"oneOf": [{"type": "number"}, {"type": "integer"}]}), ["1", "1.5"], [false, true]),
        (json!({"anyOf": [{"const": 1}, {"type": "null"}]}), ["1.0", "null"], [true, true]),
        (json!({"allOf": [{"minimum": 1}, {"multipleOf": 0.1}]}), ["1.3", "1.35"], [true, false]),
        (json!({"not": {"type": ["string", "boolean"]}}), ["0", "true"], [true, false]),
        (
            json!({"prefixItems": [{"const": 1}], "items": {"const": 2}}),
            ["[1, 2, 2]", "[1, 1]"],
            [true, false],
        ),
        (json!({"contains": {"const": 2}}), ["[1, 2]", "[1]"], [true, false]),
        (json!({"minProperties": 1, "maxProperties": 1}), [r#"{"a": 1}"#, "{}"], [true, false]),
    ] {
        assert_eq!(allowed(schema.clone(), &answers).unwrap(), wanted, "{schema}");
    }
    for (schema, place) in [
        (json!({"properties": {"a": {"patternProperties": {}}}}), "#/properties/a/patternProperties"),
        (json!({"type": "text"}), "#/type"),
        (json!({"$ref": "http://elsewhere/schema"}), "#/$ref"),
        (json!({"pattern": "("}), "("),
        (json!(3), "#"),
    ] {
        let error = allowed(schema, &["1"]).unwrap_err().to_string();
        assert!(error.contains(place), "{place}: {error}");
    }
    // A circle ends.
    assert!(allowed(json!({"$ref": "#"}), &["1"]).is_err());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("schema.json");
    let toml = format!("[[reward]]\nkind = 'json-schema'\nschema = {file:?}\n");
    assert!(rewards(&toml).is_err());
    fs::write(&file, r#"{"type": "array"}"#).unwrap();
    assert_eq!(judge(&toml, &json!({}), &["[]", "{}"]).unwrap(), [1.0, 0.0]);
}

#[cfg(unix)]
#[test]
fn a_command_gives_a_number_for_every_answer_or_is_an_error() {
    let command = |script: &str| {
        format!("[[reward]]\nkind = 'command'\ncommand = ['sh', '-c', {script:?}]\nweight = 2.0\n")
    };
    let record = json!({"id": 5});
    let answers = ["yes", "no", "yes"];
    let grade = "while read -r line; do case $line in *'\"answer\":\"yes\"'*'\"id\":5'*) echo 1.5;; *) echo -1;; esac; done";
    assert_eq!(judge(&command(grade), &record, &answers).unwrap(), [3.0, -2.0, 3.0]);
    // It need not read what it does not want to know.
    assert_eq!(judge(&command("echo 1; echo 2; echo 3"), &record, &answers).unwrap(), [2.0, 4.0, 6.0]);
    for (script, wanted) in [
        ("echo 1", "1 lines for 3"),
        ("echo 1; echo x; echo 2", "`x`"),
        ("echo 1; echo nan; echo 2", "`nan`"),
        ("echo 1; echo 2; echo 3; echo broken >&2; exit 3", "broken"),
    ] {
        let error = judge(&command(script), &record, &answers).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains("sh -c"), "{error}");
    }
    let error = judge("[[reward]]\nkind = 'command'\ncommand = ['/no/such/program']\n", &record, &answers)
        .unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    // It would never end by itself.
    let slow = command("cat > /dev/null; exec sleep 100000") + "timeout = 0.2\n";
    let error = judge(&slow, &record, &answers).unwrap_err().to_string();
    assert!(error.contains("reward.timeout"), "{error}");
}

#[test]
fn rewards_are_added() {
    let toml = "[[reward]]\nkind = 'exact'\n[[reward]]\nkind = 'regex'\npattern = '^.{2}$'\nweight = 0.25\n";
    assert_eq!(judge(toml, &json!({"answer": "42"}), &["42", "41", "4"]).unwrap(), [1.25, 0.25, 0.0]);
}
