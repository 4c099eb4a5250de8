//! What `autarky serve` and `autarky keys` take.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use autarky_engine::service::ServiceOptions;
use autarky_server::store::Store;
use clap::{Args, Subcommand, ValueEnum};

use super::{DeviceArgs, KvName};
use crate::exit::Input;

/// How requests are written to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogName {
    /// Not at all
    Off,
    /// A line each, for people
    Text,
    /// A JSON object each, for machines
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  autarky serve                                   the models in ./models, or the small one in this program
  autarky serve qwen3-4b-q4_k.gguf --context 16384 --parallel 8
  autarky serve model.gguf --adapter mine=runs/chats/adapter
  autarky serve --models /data/models --idle-unload 600 --memory-gib 48

Applications that speak OpenAI's or Anthropic's API change one URL:
  OPENAI_BASE_URL=http://127.0.0.1:8080/v1        ANTHROPIC_BASE_URL=http://127.0.0.1:8080")]
pub(crate) struct ServerArgs {
    /// Models to serve: GGUF files or Hugging Face folders. The first is loaded at once, others when asked for.
    /// `default` is the small model that is in this program; it is served where there is no other
    pub(crate) model: Vec<PathBuf>,

    /// Folder whose models can be served by name [default: ./models, where there is one]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) models: Option<PathBuf>,

    /// Folder with runs of training for the page to show [default: ./runs]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) runs: Option<PathBuf>,

    /// A LoRA adapter: the first MODEL is served with it, too, as a model called NAME. A folder that PEFT wrote, or a GGUF
    /// file. May be given several times
    #[arg(long, value_name = "NAME=PATH")]
    pub(crate) adapter: Vec<NamedAdapter>,

    /// Folder whose adapters can be loaded while the server runs (POST /v1/load_lora_adapter) [default: the folder of
    /// models]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapters: Option<PathBuf>,

    /// Chat template for all models, in place of their own: chatml, or a file with one
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) chat_template: Option<String>,

    #[command(flatten)]
    pub(crate) data: DataArgs,

    /// Address to listen on. Other machines can reach any but loopback
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,

    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub(crate) port: u16,

    #[command(flatten)]
    pub(crate) sharing: SharingArgs,

    #[command(flatten)]
    pub(crate) doors: DoorArgs,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

/// An adapter and what it is called: `NAME=PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedAdapter {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl FromStr for NamedAdapter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<NamedAdapter, &'static str> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => {
                Ok(NamedAdapter { name: name.to_owned(), path: PathBuf::from(path) })
            }
            _ => Err("an adapter is given as NAME=PATH, such as mine=runs/chats/adapter"),
        }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sharing the machine")]
pub(crate) struct SharingArgs {
    /// Tokens that a prompt and its answer may have together [default: the model's own context, at most 8192]
    #[arg(long, short = 'c', value_name = "N")]
    pub(crate) context: Option<usize>,

    /// Answers that are written at the same time; more requests wait
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) parallel: usize,

    /// Tokens that the KV cache holds, of all answers and known prompts together [default: a quarter of the free
    /// memory's worth, at least one context]
    #[arg(long, value_name = "N")]
    pub(crate) cache_tokens: Option<usize>,

    /// How keys and values are kept [default: f16, or f32 when the weights are F32]
    #[arg(long, value_name = "TYPE")]
    pub(crate) kv: Option<KvName>,

    /// Tokens of prompts that a step computes beside answers being written: fewer let these flow more evenly
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) prefill_beside: usize,

    /// Requests that may wait; more are told to come again later
    #[arg(long, value_name = "N", default_value_t = ServiceOptions::WAITING)]
    pub(crate) queue: usize,

    /// Memory for all loaded models, in GiB [default: what is free]
    #[arg(long, value_name = "GIB")]
    pub(crate) memory_gib: Option<f64>,

    /// Unload a model that nobody asked for so many seconds [default: never]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) idle_unload: Option<u64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Who may come in")]
pub(crate) struct DoorArgs {
    /// A site whose pages may use the server from a browser, such as `https://app.example`. May be given several times
    #[arg(long, value_name = "URL")]
    pub(crate) allow_origin: Vec<String>,

    /// A name under which the server is reached, beside its address and localhost. May be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,

    /// Certificate chain for HTTPS, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The certificate's private key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// How requests are written to standard error; what they say never is
    #[arg(long, value_name = "HOW", default_value = "text")]
    pub(crate) log: LogName,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DataArgs {
    /// Folder for keys, conversations and stored responses [default: ~/.local/share/autarky]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
}

impl DataArgs {
    /// The store of that folder.
    pub(crate) fn store(&self) -> Result<Store, Input> {
        let home = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let usual = || {
            let data = home("XDG_DATA_HOME").or_else(|| Some(home("HOME")?.join(".local/share")));
            data.map(|folder| folder.join("autarky"))
        };
        let Some(folder) = self.data.clone().or_else(usual) else {
            return Err(Input(
                "there is no home folder for keys and conversations; name one with --data".to_owned(),
            ));
        };
        Store::open(&folder.join("autarky.sqlite")).map_err(|e| Input(e.to_string()))
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  autarky keys create alice --requests-per-minute 60 --tokens-per-day 1000000
  autarky keys list
  autarky keys revoke alice

From the first key on, the server lets nobody in without one, and may listen beyond loopback.")]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key, and show it this once
    Create(KeysCreateArgs),
    /// List the keys, and what they used
    List(KeysListArgs),
    /// End a key at once
    Revoke(KeysRevokeArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  autarky keys create alice
  autarky keys create batch --priority -1 --tokens-per-day 5000000 --expires-days 90 --json")]
pub(crate) struct KeysCreateArgs {
    /// Whose key it is
    pub(crate) name: String,

    /// Requests a minute
    #[arg(long, value_name = "N")]
    pub(crate) requests_per_minute: Option<u32>,

    /// Tokens a minute, read and written
    #[arg(long, value_name = "N")]
    pub(crate) tokens_per_minute: Option<u64>,

    /// Tokens a day (UTC), read and written
    #[arg(long, value_name = "N")]
    pub(crate) tokens_per_day: Option<u64>,

    /// Requests at the same time
    #[arg(long, value_name = "N")]
    pub(crate) concurrent: Option<u32>,

    /// Of two requests that wait, the one of higher priority goes first
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true)]
    pub(crate) priority: i32,

    /// Days until it ends
    #[arg(long, value_name = "N")]
    pub(crate) expires_days: Option<u32>,

    #[command(flatten)]
    pub(crate) data: DataArgs,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  autarky keys list
  autarky keys list --json | jq '.[].tokens'")]
pub(crate) struct KeysListArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  autarky keys revoke alice")]
pub(crate) struct KeysRevokeArgs {
    /// The key's name or number
    pub(crate) key: String,

    #[command(flatten)]
    pub(crate) data: DataArgs,
}
