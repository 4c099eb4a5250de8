//! Model families, each described once as a graph.
//!
//! [`Model::open`] takes a GGUF file or a Hugging Face folder and gives the family's graph, the checked configuration
//! and the weights under the graph's names, which are GGUF's.
//!
//! Module map: `families` one file per family · `decoder`, `attention`, `feed_forward` the blocks that they share ·
//! [`config`] sizes and choices, read from `config.json` and (`gguf`) metadata through `fields` · [`rope`] rotary
//! angles · `names`, `binding` how weights are made from a checkpoint's tensors · `model` the opened model · `outline` a
//! graph without weights ·
//! [`mod@convert`], `export` writing models as GGUF files and Hugging Face folders · `adapter` updates beside a model.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod adapter;
mod attention;
mod binding;
pub mod config;
pub mod convert;
mod decoder;
mod error;
mod export;
mod families;
mod feed_forward;
mod fields;
mod gguf;
mod model;
mod names;
mod outline;
pub mod rope;
mod turned;

pub use config::Config;
pub use convert::{convert, convert_llama2c, convert_weights};
pub use error::FamilyError;
pub use export::{AdapterSpec, Numbers, Update, export_adapter, export_adapter_gguf, export_weights};
pub use model::{Model, TypeUse, known_families};
pub use outline::{Outline, config_object, outline, outline_of};
