//! Commands of the interactive chat: lines that begin with a slash.

use autarky_engine::{Sampling, SamplingError};

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Slash {
    Help,
    Clear,
    /// What the model is told from now on; empty: nothing.
    System(String),
    /// A setting and its new value, or a list of all.
    Set(Option<(String, String)>),
    /// Applies the adapter of this path from now on; empty: none.
    Adapter(String),
    Stats,
    Save(String),
    Exit,
    /// What is wrong with it.
    Wrong(String),
}

pub(super) const HELP: &str = "\
/help              this list
/clear             forget the conversation
/system TEXT       tell the model something else first, and begin anew
/set               list the settings
/set NAME VALUE    change one, such as: /set temperature 0.7
/adapter PATH      apply a LoRA adapter from now on, in the place of another; /adapter none applies none
/stats             speed of the last answer, and how full the context is
/save FILE         write the conversation as JSON
/exit              leave (so does Ctrl-D)
Ctrl-C stops an answer. A line that ends with \\ goes on in the next.";

impl Slash {
    /// The command on a line, or `None` for a line that is for the model. `//` begins a line with a slash.
    pub(super) fn parse(line: &str) -> Option<Slash> {
        let rest = line.strip_prefix('/').filter(|rest| !rest.starts_with('/'))?;
        let (name, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let argument = argument.trim();
        Some(match (name, argument) {
            ("help" | "?", "") => Slash::Help,
            ("clear", "") => Slash::Clear,
            ("system", text) => Slash::System(text.to_owned()),
            ("set", "") => Slash::Set(None),
            ("set", pair) => match pair.split_once(char::is_whitespace) {
                Some((name, value)) => Slash::Set(Some((name.to_owned(), value.trim().to_owned()))),
                None => {
                    Slash::Wrong("/set wants a name and a value, such as: /set temperature 0.7".to_owned())
                }
            },
            ("adapter", "") => Slash::Wrong(
                "/adapter wants a path, such as: /adapter runs/chats/adapter, or none".to_owned(),
            ),
            ("adapter", "none") => Slash::Adapter(String::new()),
            ("adapter", path) => Slash::Adapter(path.to_owned()),
            ("stats", "") => Slash::Stats,
            ("save", "") => Slash::Wrong("/save wants a file name".to_owned()),
            ("save", file) => Slash::Save(file.to_owned()),
            ("exit" | "quit" | "bye", "") => Slash::Exit,
            ("help" | "?" | "clear" | "stats" | "exit" | "quit" | "bye", _) => {
                Slash::Wrong(format!("/{name} takes nothing after it"))
            }
            _ => Slash::Wrong(format!("unknown command /{name}; /help lists them")),
        })
    }
}

/// Settings that `/set` knows.
pub(super) fn settings(sampling: &Sampling, max_tokens: Option<usize>) -> [(&'static str, String); 11] {
    let s = sampling;
    [
        ("temperature", s.temperature.to_string()),
        ("top-k", s.top_k.to_string()),
        ("top-p", s.top_p.to_string()),
        ("min-p", s.min_p.to_string()),
        ("typical-p", s.typical_p.to_string()),
        ("repetition-penalty", s.repetition_penalty.to_string()),
        ("presence-penalty", s.presence_penalty.to_string()),
        ("frequency-penalty", s.frequency_penalty.to_string()),
        ("penalty-window", s.penalty_window.to_string()),
        ("seed", s.seed.to_string()),
        ("max-tokens", max_tokens.map_or("none".to_owned(), |n| n.to_string())),
    ]
}

/// Changes one setting.
pub(super) fn set(
    name: &str,
    value: &str,
    sampling: &mut Sampling,
    max_tokens: &mut Option<usize>,
) -> Result<(), String> {
    fn parse<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
        value.parse().map_err(|_| format!("{value:?} is no value for {name}"))
    }
    let mut s = *sampling;
    let name = name.replace('_', "-");
    match &*name {
        "temperature" => s.temperature = parse(&name, value)?,
        "top-k" => s.top_k = parse(&name, value)?,
        "top-p" => s.top_p = parse(&name, value)?,
        "min-p" => s.min_p = parse(&name, value)?,
        "typical-p" => s.typical_p = parse(&name, value)?,
        "repetition-penalty" => s.repetition_penalty = parse(&name, value)?,
        "presence-penalty" => s.presence_penalty = parse(&name, value)?,
        "frequency-penalty" => s.frequency_penalty = parse(&name, value)?,
        "penalty-window" => s.penalty_window = parse(&name, value)?,
        "seed" => s.seed = parse(&name, value)?,
        "max-tokens" => {
            *max_tokens = if value == "none" { None } else { Some(parse(&name, value)?) };
            return Ok(());
        }
        _ => return Err(format!("unknown setting {name:?}; /set lists them")),
    }
    s.validate().map_err(|e: SamplingError| e.to_string())?;
    *sampling = s;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_only_after_one_slash() {
        assert_eq!(Slash::parse("/help"), Some(Slash::Help));
        assert_eq!(Slash::parse("/set top_p  0.5 "), Some(Slash::Set(Some(("top_p".into(), "0.5".into())))));
        assert_eq!(Slash::parse("/system be brief"), Some(Slash::System("be brief".into())));
        assert_eq!(Slash::parse("/adapter my adapter"), Some(Slash::Adapter("my adapter".into())));
        assert_eq!(Slash::parse("/adapter none"), Some(Slash::Adapter(String::new())));
        assert_eq!(Slash::parse("hello /help"), None);
        assert_eq!(Slash::parse("//comment"), None);
        for wrong in ["/nonsense", "/set temperature", "/save", "/adapter", "/clear now", "/"] {
            assert!(matches!(Slash::parse(wrong), Some(Slash::Wrong(_))), "{wrong}");
        }
    }

    #[test]
    fn every_setting_can_be_set_to_what_it_is_listed_as() {
        let listed = settings(&Sampling::default(), Some(7));
        let (mut sampling, mut max) = (Sampling::default(), None);
        for (name, value) in listed {
            set(name, &value, &mut sampling, &mut max).unwrap();
        }
        assert_eq!((sampling, max), (Sampling::default(), Some(7)));
        set("max_tokens", "none", &mut sampling, &mut max).unwrap();
        assert_eq!(max, None);
    }

    #[test]
    fn a_bad_value_changes_nothing() {
        let (mut sampling, mut max) = (Sampling::default(), None);
        for (name, value) in [("temperature", "-1"), ("top-k", "many"), ("top-p", "2"), ("colour", "red")] {
            assert!(set(name, value, &mut sampling, &mut max).is_err());
        }
        assert_eq!(sampling, Sampling::default());
    }
}
