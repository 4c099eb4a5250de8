//! `POST /v1/embeddings` and `POST /v1/rerank`: vectors of texts, and how near texts are to a question.

use autarky_text::EncodeOptions;
use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Value, json};

use super::input::inputs;
use crate::body::{self, apart};
use crate::embed::{cosine, embed, normalize};
use crate::error::ApiError;
use crate::fields::{Fields, wrong};
use crate::generation::Input;
use crate::state::{AppState, RequestLimits};

struct Embeddings {
    model: String,
    inputs: Vec<Input>,
    base64: bool,
    dimensions: Option<usize>,
}

fn parse(body: &Value, limits: &RequestLimits) -> Result<Embeddings, ApiError> {
    let fields = Fields::root(body)?;
    fields.only(&[&["model", "input", "encoding_format", "dimensions", "user"]])?;
    Ok(Embeddings {
        model: fields.required_string("model")?.to_owned(),
        inputs: inputs(&fields, "input", limits.inputs)?,
        base64: fields.choice("encoding_format", &["float", "base64"])? == Some("base64"),
        dimensions: fields.count("dimensions", 1..=1 << 20)?,
    })
}

/// Vectors of texts.
pub(super) async fn embeddings(
    State(state): State<AppState>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let limits = state.limits;
    let asked = body::read(request, limits, move |body| parse(body, &limits)).await?;
    let tokens = tokenize(&state, &asked.model, asked.inputs, "input").await?;
    let count: usize = tokens.iter().map(Vec::len).sum();
    let vectors = embed(&state, &asked.model, tokens).await?;
    let known = vectors.first().map_or(0, Vec::len);
    if let Some(wanted) = asked.dimensions.filter(|n| *n > known) {
        let what = format!("is {wanted}, and the model's vectors have {known} numbers");
        return Err(ApiError::parameter("dimensions", what));
    }
    let entry = |(index, vector): (usize, Vec<f32>)| {
        let vector = normalize(vector, asked.dimensions);
        let embedding = if asked.base64 { json!(base64(&vector)) } else { json!(vector) };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
    let data: Vec<Value> = vectors.into_iter().enumerate().map(entry).collect();
    let usage = json!({"prompt_tokens": count, "total_tokens": count});
    Ok(Json(json!({"object": "list", "data": data, "model": asked.model, "usage": usage})))
}

/// The tokens of texts, which may take long to make.
async fn tokenize(
    state: &AppState,
    model: &str,
    inputs: Vec<Input>,
    param: &'static str,
) -> Result<Vec<Vec<u32>>, ApiError> {
    let tokenizer = state.registry.get(model).await?.tokenizer.clone();
    let made = apart(true, move || {
        let options = EncodeOptions { add_special: true, parse_special: false };
        let tokens = |input: Input| match input {
            Input::Text(text) => tokenizer.encode(&text, options),
            Input::Tokens(tokens) => Ok(tokens),
            Input::Conversation(_) => Ok(Vec::new()),
        };
        inputs.into_iter().map(tokens).collect::<Result<Vec<_>, _>>()
    });
    made.await?.map_err(|e| ApiError::parameter(param, e.to_string()))
}

struct Rerank {
    model: String,
    query: String,
    documents: Vec<String>,
    top_n: usize,
    return_documents: bool,
}

fn parse_rerank(body: &Value, limits: &RequestLimits) -> Result<Rerank, ApiError> {
    let fields = Fields::root(body)?;
    fields.only(&[&["model", "query", "documents", "top_n", "return_documents", "user"]])?;
    let document = |(i, value): (usize, &Value)| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Object(_) => {
            Ok(Fields::at(value, format!("documents[{i}]"))?.required_string("text")?.to_owned())
        }
        other => Err(wrong(&format!("documents[{i}]"), other, "a string or an object with `text`")),
    };
    fields.required("documents")?;
    let documents = fields.array("documents")?.unwrap_or_default();
    if documents.is_empty() || documents.len() > limits.inputs {
        let what = format!("has {} entries, and must have between 1 and {}", documents.len(), limits.inputs);
        return Err(fields.error("documents", what));
    }
    Ok(Rerank {
        model: fields.required_string("model")?.to_owned(),
        query: fields.required_string("query")?.to_owned(),
        top_n: fields.count("top_n", 1..=usize::MAX)?.unwrap_or(usize::MAX),
        return_documents: fields.boolean("return_documents")?.unwrap_or(false),
        documents: documents.iter().enumerate().map(document).collect::<Result<_, _>>()?,
    })
}

/// Documents by how near they are to a question, the nearest first.
pub(super) async fn rerank(State(state): State<AppState>, request: Request) -> Result<Json<Value>, ApiError> {
    let limits = state.limits;
    let asked = body::read(request, limits, move |body| parse_rerank(body, &limits)).await?;
    let texts = std::iter::once(&asked.query).chain(&asked.documents);
    let texts = texts.map(|text| Input::Text(text.clone())).collect();
    let tokens = tokenize(&state, &asked.model, texts, "documents").await?;
    let count: usize = tokens.iter().map(Vec::len).sum();
    let vectors = embed(&state, &asked.model, tokens).await?;
    let mut vectors = vectors.into_iter().map(|vector| normalize(vector, None));
    let query = vectors.next().unwrap_or_default();
    let scores: Vec<f64> = vectors.map(|vector| cosine(&query, &vector)).collect();
    let results =
        ranked(&scores, asked.top_n, |index| asked.documents.get(index).filter(|_| asked.return_documents));
    let usage = json!({"prompt_tokens": count, "total_tokens": count});
    Ok(Json(json!({"object": "list", "model": asked.model, "results": results, "usage": usage})))
}

/// The best `top_n` of `scores`, best first, each with its document if that is to be told.
fn ranked<'a>(scores: &[f64], top_n: usize, document: impl Fn(usize) -> Option<&'a String>) -> Vec<Value> {
    let mut order: Vec<(usize, f64)> = scores.iter().copied().enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let result = |(index, score): (usize, f64)| {
        let mut result = json!({"index": index, "relevance_score": score});
        if let (Some(text), Some(map)) = (document(index), result.as_object_mut()) {
            map.insert("document".to_owned(), json!({"text": text}));
        }
        result
    };
    order.into_iter().take(top_n).map(result).collect()
}

/// The bytes of `vector`, little-endian, in base64 (RFC 4648, section 4).
fn base64(vector: &[f32]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let letter =
                ALPHABET.get((bits >> (18 - 6 * place) & 63) as usize).map_or('=', |code| char::from(*code));
            out.push(if place > group.len() { '=' } else { letter });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one_whatever_is_cut_off() {
        assert_eq!(normalize(vec![3.0, 4.0, 12.0], Some(2)), [0.6, 0.8]);
        assert_eq!(normalize(vec![0.0, 0.0], None), [0.0, 0.0]);
        assert!(
            (cosine(&normalize(vec![1.0, 2.0], None), &normalize(vec![2.0, 4.0], None)) - 1.0).abs() < 1e-6
        );
    }

    #[test]
    fn base64_is_that_of_the_bytes() {
        // 1.0 is 00 00 80 3F, and -2.5 is 00 00 20 C0.
        assert_eq!(base64(&[1.0]), "AACAPw==");
        assert_eq!(base64(&[1.0, -2.5]), "AACAPwAAIMA=");
        assert_eq!(base64(&[1.0, -2.5, 1.0]), "AACAPwAAIMAAAIA/");
        assert_eq!(base64(&[]), "");
    }

    #[test]
    fn documents_come_in_order_of_their_scores() {
        let documents = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let results = ranked(&[0.1, 0.9, f64::NEG_INFINITY], 2, |i| documents.get(i));
        let expected = json!([
            {"index": 1, "relevance_score": 0.9, "document": {"text": "b"}},
            {"index": 0, "relevance_score": 0.1, "document": {"text": "a"}},
        ]);
        assert_eq!(json!(results), expected);
    }
}
