//! A server in the test's own process, over the small trained model of the repository.

#![allow(dead_code, unreachable_pub, missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use autarky_cpu::{Cpu, CpuOptions};
use autarky_engine::service::{Service, ServiceOptions};
use autarky_engine::{Engine, Options};
use autarky_family::{AdapterSpec, Model, Update, export_adapter_gguf};
use autarky_graph::CacheDType;
use autarky_server::app::Doors;
use autarky_server::model::{LoadError, LoadedModel, Loader, ModelFiles, ModelInfo};
use autarky_server::registry::{Registry, RegistryOptions};
use autarky_server::runs::Runs;
use autarky_server::state::{About, AppState};
use autarky_server::store::Store;
use autarky_text::{Spec, Tokenizer};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

/// The model's name in requests.
pub const MODEL: &str = "stories260k";

/// A template in which tools and reasoning have their places, as in Qwen3's.
const TEMPLATE: &str = include_str!("../../../text/tests/fixtures/chat/qwen3.jinja");

struct Stories {
    template: Option<String>,
    waiting: usize,
}

impl Loader for Stories {
    fn inspect(&self, files: &ModelFiles) -> Result<ModelInfo, LoadError> {
        open(files)?;
        let (family, chat) = ("llama".to_owned(), self.template.is_some());
        Ok(ModelInfo { family, parameters: 260_000, bytes: 1 << 20, context: CONTEXT, chat, memory: MEMORY })
    }

    fn load(&self, files: &ModelFiles, _progress: &(dyn Fn(f32) + Sync)) -> Result<LoadedModel, LoadError> {
        let model = open(files)?;
        let spec = Spec::from_gguf(model.source().metadata().expect("a GGUF file")).expect("it is good");
        let spec = Spec { chat_template: self.template.clone(), ..spec };
        let tokenizer = Arc::new(Tokenizer::new(&spec).expect("it is good"));
        let cpu = Cpu::new(CpuOptions { threads: Some(1), ..CpuOptions::default() }).expect("a processor");
        let cache = CacheDType::F32;
        let options =
            Options { context: CONTEXT, sequences: 8, positions: None, chunk: 256, outputs: 32, cache };
        let engine = Engine::new(&cpu, model.graph().clone(), model.weights(), options).expect("it fits");
        let options = ServiceOptions { sequences: 8, waiting: self.waiting, beside: 128 };
        let service = Service::start(engine, Arc::clone(&tokenizer), options).expect("a thread");
        Ok(LoadedModel::new(service, tokenizer, self.inspect(files)?, "cpu".to_owned()))
    }
}

fn open(files: &ModelFiles) -> Result<Model, LoadError> {
    let model = Model::open(&files.path).map_err(|e| LoadError(e.to_string()))?;
    match &files.adapter {
        None => Ok(model),
        Some(adapter) => model.with_adapter(adapter).map_err(|e| LoadError(e.to_string())),
    }
}

/// Writes an adapter for the model: updates of rank 1 beside the last products of its layers, `strength` of their like.
/// One without strength changes nothing.
pub fn adapter(file: &Path, strength: f32) {
    let model = Model::open(path()).expect("in the tree");
    let weights = model.graph().weights().iter().filter(|w| w.name.ends_with("ffn_down.weight"));
    let updates: Vec<Update> = weights
        .map(|w| {
            let ends = |n: usize| (0..n).map(|i| (i % 5) as f32 - 2.0).collect::<Vec<_>>();
            let up = ends(w.shape[0]).iter().map(|x| strength * x).collect();
            Update { weight: w.name.clone(), down: ends(w.shape[1]), up, magnitude: Vec::new() }
        })
        .collect();
    assert!(!updates.is_empty());
    let about = AdapterSpec { rank: 1, alpha: 1.0, rank_stabilized: false, base: MODEL.to_owned() };
    export_adapter_gguf(model.config(), &about, &updates, file).expect("it can be written");
}

/// Positions of a sequence.
pub const CONTEXT: usize = 4096;

/// A server whose model answers with Qwen3's template.
pub fn app() -> Router {
    with(Some(TEMPLATE), 64)
}

/// A server whose model has this chat template, and lets so many requests wait.
pub fn with(template: Option<&str>, waiting: usize) -> Router {
    made(template, waiting, Store::in_memory().unwrap())
}

/// As [`app`], over this store.
pub fn with_store(store: Store) -> Router {
    made(Some(TEMPLATE), 64, store)
}

/// As [`app`], behind these doors.
pub fn with_doors(doors: Doors) -> Router {
    routed(Some(TEMPLATE), 64, Store::in_memory().unwrap(), doors)
}

/// A server that shows the runs of this folder, behind the usual doors and over this store.
pub fn with_runs(folder: &Path, store: Store) -> Router {
    let registry =
        Registry::new(Box::new(Stories { template: None, waiting: 1 }), RegistryOptions::default());
    let runs = Runs::new(Some(folder.to_owned()));
    autarky_server::app::app(
        AppState::new(registry, store, About::default()).with_runs(runs),
        Doors::default(),
    )
}

fn made(template: Option<&str>, waiting: usize, store: Store) -> Router {
    routed(template, waiting, store, Doors::default())
}

fn routed(template: Option<&str>, waiting: usize, store: Store, doors: Doors) -> Router {
    let loader = Stories { template: template.map(str::to_owned), waiting };
    let registry = Registry::new(Box::new(loader), RegistryOptions::default());
    assert_eq!(registry.add(&path()).expect("in the tree"), MODEL);
    autarky_server::app::app(AppState::new(registry, store, About::default()), doors)
}

/// The model's file.
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/stories260k.gguf")
}

/// What a model takes of a registry's memory in tests.
pub const MEMORY: u64 = 1 << 20;

/// A server over these models.
pub fn over(registry: Arc<Registry>) -> Router {
    let state = AppState::new(registry, Store::in_memory().unwrap(), About::default());
    autarky_server::app::app(state, Doors::default())
}

/// A registry of copies of the model in `folder`, by these names.
pub fn registry(folder: &Path, names: &[&str], options: RegistryOptions) -> Arc<Registry> {
    let loader = Stories { template: Some(TEMPLATE.to_owned()), waiting: 64 };
    let registry = Registry::new(Box::new(loader), options);
    for name in names {
        let copy = folder.join(format!("{name}.gguf"));
        std::fs::copy(path(), &copy).expect("a file");
        assert_eq!(registry.add(&copy).expect("a model"), *name);
    }
    registry
}

/// A response, whole.
#[derive(Debug)]
pub struct Answered {
    pub status: StatusCode,
    pub kind: String,
    pub retry_after: Option<String>,
    pub text: String,
}

impl Answered {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The events of a stream: name and data. Comments are left out.
    pub fn events(&self) -> Vec<(String, String)> {
        assert!(self.kind.starts_with("text/event-stream"), "{self:?}");
        let blocks = self.text.split("\n\n").filter(|b| !b.is_empty() && !b.starts_with(':'));
        blocks
            .map(|block| {
                let mut name = String::new();
                let mut data = None;
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("event", rest)) => name = rest.to_owned(),
                        Some(("data", rest)) => assert_eq!(data.replace(rest.to_owned()), None),
                        _ => panic!("no line of an event: {line}"),
                    }
                }
                (name, data.expect("an event has data"))
            })
            .collect()
    }

    /// The events as JSON, without the `[DONE]` that must come last.
    pub fn chunks(&self) -> Vec<Value> {
        let mut events = self.events();
        assert_eq!(events.pop().expect("events").1, "[DONE]");
        events.iter().map(|(_, data)| serde_json::from_str(data).expect("JSON")).collect()
    }
}

pub async fn read(response: Response<Body>) -> Answered {
    let (parts, body) = response.into_parts();
    let header = |name: &str| parts.headers.get(name).map(|v| v.to_str().expect("text").to_owned());
    let (kind, retry_after) = (header("content-type").unwrap_or_default(), header("retry-after"));
    let bytes = body.collect().await.expect("a body").to_bytes();
    let text = String::from_utf8(bytes.to_vec()).expect("valid UTF-8");
    Answered { status: parts.status, kind, retry_after, text }
}

/// Sends `body` as it is.
pub async fn send(app: &Router, method: &str, path: &str, body: impl Into<Body>) -> Answered {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = request.body(body.into()).expect("a request");
    read(app.clone().oneshot(request).await.expect("routers do not fail")).await
}

pub async fn post(app: &Router, path: &str, body: Value) -> Answered {
    send(app, "POST", path, body.to_string()).await
}

/// Posts what must be answered with 200 and JSON.
pub async fn ask(app: &Router, path: &str, body: Value) -> Value {
    let answered = post(app, path, body).await;
    assert_eq!(answered.status, StatusCode::OK, "{answered:?}");
    answered.json()
}

pub async fn get(app: &Router, path: &str) -> Answered {
    send(app, "GET", path, Body::empty()).await
}
