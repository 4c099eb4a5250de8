//! `autarky serve`

mod loader;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use autarky_server::app::{Doors, app};
use autarky_server::listen::{self, Encrypted, ListenOptions, Plain};
use autarky_server::log::Log;
use autarky_server::registry::{Registry, RegistryOptions};
use autarky_server::runs::Runs;
use autarky_server::state::{About, AppState};
use autarky_server::tls::{self, TlsAcceptor};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{LogName, NamedAdapter, ServerArgs};
use crate::builtin;
use crate::exit::{Input, Usage};
use crate::load;
use crate::terminal::{Style, say, warn};
use loader::EngineLoader;

/// Where models are looked for when no folder is named.
const FOLDER: &str = "models";

/// Where runs of training are looked for when no folder is named.
const RUNS: &str = "runs";

/// For how long a look at a model's files is good.
const GOOD: Duration = Duration::from_secs(1);

/// How often idle models are looked for.
const LOOK: Duration = Duration::from_secs(5);

pub(super) fn run(args: &ServerArgs) -> Result<()> {
    let store = args.data.store()?;
    let has_keys = store.has_keys().map_err(|e| Input(e.to_string()))?;
    if !args.host.is_loopback() && !has_keys {
        let what = "without API keys the server listens on loopback addresses only, such as 127.0.0.1; \
                    `autarky keys create NAME` makes a key";
        return Err(Usage(format!("--host {}: {what}", args.host)).into());
    }
    let tls = match (&args.doors.tls_cert, &args.doors.tls_key) {
        (Some(certificate), Some(key)) => {
            Some(tls::acceptor(certificate, key).map_err(|e| Input(e.to_string()))?)
        }
        _ => None,
    };
    let (device, threads) = load::device(&args.device)?;
    let about =
        About { device: format!("{} ({})", device.name(), device.abilities().instruction_set), threads };
    drop(device);
    let registry = Registry::new(Box::new(EngineLoader::new(args)?), registry_options(args)?);
    let first = add_models(&registry, &args.model)?;
    add_adapters(&registry, &args.adapter, Some(&*first).filter(|_| !args.model.is_empty()))?;
    let state = AppState::new(Arc::clone(&registry), store, about).with_runs(runs(args)?);
    let log = match args.doors.log {
        LogName::Off => Log::Off,
        LogName::Text => Log::Text,
        LogName::Json => Log::Json,
    };
    let doors = Doors {
        log,
        origins: args.doors.allow_origin.clone(),
        hosts: args.doors.allow_host.clone(),
        any_host: has_keys,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the server's threads")?;
    runtime.block_on(serve(args, state, doors, tls, first))
}

fn registry_options(args: &ServerArgs) -> Result<RegistryOptions> {
    let models = folder("--models", &args.models)?;
    let models = models.or_else(|| Some(PathBuf::from(FOLDER)).filter(|f| f.is_dir()));
    let adapters = folder("--adapters", &args.adapters)?;
    let sharing = &args.sharing;
    let memory = match sharing.memory_gib {
        Some(gib) if !(gib.is_finite() && gib > 0.0) => {
            return Err(Usage(format!("--memory-gib {gib}: must be above 0")).into());
        }
        gib => gib.map(|gib| (gib * f64::from(1 << 30)) as u64),
    };
    let idle = sharing.idle_unload.map(Duration::from_secs);
    Ok(RegistryOptions { folder: models, adapters, memory, idle, look: GOOD })
}

/// The folder that a flag names, if it does.
fn folder(flag: &str, asked: &Option<PathBuf>) -> Result<Option<PathBuf>> {
    match asked {
        Some(folder) if !folder.is_dir() => {
            Err(Input(format!("{flag} {}: no such folder", folder.display())).into())
        }
        asked => Ok(asked.clone()),
    }
}

fn runs(args: &ServerArgs) -> Result<Runs> {
    // That of no flag appears with the first run.
    let folder = folder("--runs", &args.runs)?.unwrap_or_else(|| PathBuf::from(RUNS));
    Ok(Runs::new(Some(folder)))
}

/// Adds the models that were named and those of the folder; gives the one to load first.
fn add_models(registry: &Registry, named: &[PathBuf]) -> Result<String> {
    let mut first = None;
    let add = |path: &Path| -> Result<String> {
        let cannot = |e| Input(format!("cannot serve {}: {e}", path.display()));
        Ok(registry.add(&builtin::resolve(path)?).map_err(cannot)?)
    };
    for path in named {
        first.get_or_insert(add(path)?);
    }
    for problem in registry.scan() {
        warn(&format!("not served: {problem}"));
    }
    // What lies in the folder and was not named is loaded when asked for, unless it is all there is.
    match first.or_else(|| registry.names().into_iter().next()) {
        Some(first) => Ok(first),
        None => add(Path::new(builtin::DEFAULT)),
    }
}

/// Adds the adapters that were named, beside `base` or the only model.
fn add_adapters(registry: &Registry, named: &[NamedAdapter], base: Option<&str>) -> Result<()> {
    for NamedAdapter { name, path } in named {
        let added = registry.add_adapter(name, base, path);
        added.map_err(|e| Input(format!("--adapter {name}={}: {e}", path.display())))?;
    }
    Ok(())
}

async fn serve(
    args: &ServerArgs,
    state: AppState,
    doors: Doors,
    tls: Option<TlsAcceptor>,
    first: String,
) -> Result<()> {
    let address = SocketAddr::new(args.host, args.port);
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; --port chooses another port, and --port 0 a free one")
    })?;
    let address = listener.local_addr().context("cannot tell the address")?;
    let style = Style::stderr();
    let scheme = if tls.is_some() { "https" } else { "http" };
    say(&format!("{} {scheme}://{address}", style.bold("Autarky serves on")));
    say(&style.dim(&format!("models: {}; loading {first}", state.registry.names().join(", "))));
    if let Err(error) = state.registry.load(&first).await {
        warn(&error.to_string());
    }
    let registry = Arc::clone(&state.registry);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            for name in registry.unload_idle() {
                say(&format!("unloaded {name}, which nobody used"));
            }
        }
    });
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let draining = state.clone();
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        say("stopping: answers that are being written may end; again stops at once");
        draining.drain();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(i32::from(crate::exit::INTERRUPTED));
        });
    };
    let store = state.store.clone();
    tokio::spawn(store.maintenance(|error| warn(&error.to_string())));
    let (app, options) = (app(state, doors), ListenOptions::default());
    let in_time = match tls {
        Some(tls) => listen::serve(listener, app, Encrypted(tls), options, stop).await,
        None => listen::serve(listener, app, Plain, options, stop).await,
    };
    if !in_time {
        warn("some answers had not ended and were broken off");
    }
    store.run(|store| store.flush()).await.context("cannot write what was used")
}
