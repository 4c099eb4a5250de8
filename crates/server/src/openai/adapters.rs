//! `POST /v1/load_lora_adapter`, `POST /v1/unload_lora_adapter`: adapters that come and go while the server runs, by the
//! names and fields that vLLM has for it.

use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Value, json};

use super::models::openai;
use crate::body;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::state::AppState;

struct Load {
    name: String,
    path: String,
    base: Option<String>,
}

fn parse(body: &Value) -> Result<Load, ApiError> {
    let fields = Fields::root(body)?;
    fields.only(&[&["lora_name", "lora_path", "base_model_name", "load_inplace"]])?;
    // A name that is taken is always loaded in place.
    fields.boolean("load_inplace")?;
    Ok(Load {
        name: fields.required_string("lora_name")?.to_owned(),
        path: fields.required_string("lora_path")?.to_owned(),
        base: fields.string("base_model_name")?.map(str::to_owned),
    })
}

/// Adds an adapter from the folder of adapters, or replaces the one of that name; gives the model that it now is.
pub(super) async fn load(State(state): State<AppState>, request: Request) -> Result<Json<Value>, ApiError> {
    let Load { name, path, base } = body::read(request, state.limits, parse).await?;
    let (registry, id) = (state.registry.clone(), name.clone());
    // Reads the adapter's files, which may lie on a slow disk.
    let added =
        tokio::task::spawn_blocking(move || registry.add_adapter_from_folder(&name, base.as_deref(), &path));
    added.await.map_err(|_| ApiError::internal("the adapter could not be read"))??;
    let models = state.registry.status();
    let model = models.iter().find(|model| model.id == id).map(openai);
    model.map(Json).ok_or_else(|| ApiError::internal("the adapter was removed just now"))
}

/// Takes an adapter away. Requests that use it go on.
pub(super) async fn unload(State(state): State<AppState>, request: Request) -> Result<Json<Value>, ApiError> {
    let parse = |body: &Value| {
        let fields = Fields::root(body)?;
        fields.only(&[&["lora_name", "lora_int_id"]])?;
        Ok(fields.required_string("lora_name")?.to_owned())
    };
    let name = body::read(request, state.limits, parse).await?;
    state.registry.remove_adapter(&name)?;
    Ok(Json(json!({"id": name, "object": "model", "deleted": true})))
}
