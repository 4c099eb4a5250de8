//! `/v1/completions`, `/v1/embeddings` and `/v1/rerank`.

mod support;

use serde_json::{Value, json};
use support::{MODEL, app, ask, post, with};

const PATH: &str = "/v1/completions";

fn request(more: Value) -> Value {
    let mut body = json!({"model": MODEL, "prompt": "Once upon a time", "max_tokens": 10, "temperature": 0});
    let map = body.as_object_mut().unwrap();
    map.extend(more.as_object().unwrap().clone());
    map.retain(|_, value| !value.is_null());
    body
}

fn text(body: &Value, index: usize) -> &str {
    body["choices"][index]["text"].as_str().unwrap()
}

#[tokio::test]
async fn a_prompt_is_gone_on_with() {
    // No template is needed.
    let app = with(None, 64);
    let body = ask(&app, PATH, request(json!({}))).await;
    assert!(body["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(body["object"], "text_completion");
    assert!(text(&body, 0).starts_with(", "), "{body}");
    assert_eq!(body["choices"][0]["finish_reason"], "length");
    assert_eq!(body["usage"]["completion_tokens"], 10);
    // 16 tokens unless said otherwise, as the real one has it.
    let body = ask(&app, PATH, request(json!({"max_tokens": null}))).await;
    assert_eq!(body["usage"]["completion_tokens"], 16);
}

#[tokio::test]
async fn prompts_come_in_text_and_tokens_one_and_many() {
    let app = app();
    let alone = ask(&app, PATH, request(json!({}))).await;
    let other = ask(&app, PATH, request(json!({"prompt": "The dog"}))).await;
    let both = ask(&app, PATH, request(json!({"prompt": ["Once upon a time", "The dog"], "n": 2}))).await;
    let texts: Vec<&str> = (0..4).map(|i| text(&both, i)).collect();
    assert_eq!(texts, [text(&alone, 0), text(&alone, 0), text(&other, 0), text(&other, 0)]);
    let indices: Vec<&Value> = both["choices"].as_array().unwrap().iter().map(|c| &c["index"]).collect();
    assert_eq!(indices, [0, 1, 2, 3]);
    assert_eq!(both["usage"]["completion_tokens"], 40);
    let tokens = ask(&app, PATH, request(json!({"prompt": [1, 403, 407]}))).await;
    assert_eq!(tokens["usage"]["prompt_tokens"], 3);
    let many = ask(&app, PATH, request(json!({"prompt": [[1, 403, 407], [1, 403]]}))).await;
    assert_eq!((text(&many, 0), &many["usage"]["prompt_tokens"]), (text(&tokens, 0), &json!(5)));
}

#[tokio::test]
async fn a_stream_says_the_same() {
    let app = app();
    for more in
        [json!({"echo": true}), json!({"logprobs": 2}), json!({"prompt": ["The dog", "A cat"], "n": 2})]
    {
        let whole = ask(&app, PATH, request(more.clone())).await;
        let mut streamed = request(more);
        streamed["stream"] = json!(true);
        streamed["stream_options"] = json!({"include_usage": true});
        let chunks = post(&app, PATH, streamed).await.chunks();
        let (last, chunks) = chunks.split_last().unwrap();
        assert_eq!(last["usage"]["total_tokens"], whole["usage"]["total_tokens"]);
        for (index, expected) in whole["choices"].as_array().unwrap().iter().enumerate() {
            let own: Vec<&Value> =
                chunks.iter().map(|c| &c["choices"][0]).filter(|c| c["index"] == index).collect();
            let text: String = own.iter().map(|c| c["text"].as_str().unwrap()).collect();
            assert_eq!(json!(text), expected["text"]);
            assert_eq!(own.last().unwrap()["finish_reason"], expected["finish_reason"]);
            for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
                let all = own.iter().filter_map(|c| c["logprobs"][list].as_array()).flatten();
                let all: Vec<&Value> = all.collect();
                let expected = expected["logprobs"][list].as_array().map(|l| l.iter().collect());
                assert_eq!(all, expected.unwrap_or_else(Vec::new));
            }
        }
    }
}

#[tokio::test]
async fn echo_gives_the_prompt_again() {
    let app = app();
    let plain = ask(&app, PATH, request(json!({}))).await;
    let echo = ask(&app, PATH, request(json!({"echo": true}))).await;
    assert_eq!(text(&echo, 0), format!("Once upon a time{}", text(&plain, 0)));
    let nothing = ask(&app, PATH, request(json!({"echo": true, "max_tokens": 0}))).await;
    assert_eq!((text(&nothing, 0), &nothing["usage"]["completion_tokens"]), ("Once upon a time", &json!(0)));
    assert_eq!(nothing["usage"]["prompt_tokens"], plain["usage"]["prompt_tokens"]);
}

#[tokio::test]
async fn log_probabilities_have_the_old_shape() {
    let body = ask(&app(), PATH, request(json!({"logprobs": 3}))).await;
    let logprobs = &body["choices"][0]["logprobs"];
    let tokens = logprobs["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 10);
    let joined: String = tokens.iter().map(|t| t.as_str().unwrap()).collect();
    assert_eq!(joined, text(&body, 0));
    for (i, top) in logprobs["top_logprobs"].as_array().unwrap().iter().enumerate() {
        let chosen = tokens[i].as_str().unwrap();
        assert_eq!(top[chosen], logprobs["token_logprobs"][i], "at temperature 0 the best is chosen");
        assert!((1..=3).contains(&top.as_object().unwrap().len()));
    }
    let offsets: Vec<u64> =
        logprobs["text_offset"].as_array().unwrap().iter().map(|o| o.as_u64().unwrap()).collect();
    assert!(offsets[0] == 0 && offsets.is_sorted());
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_place() {
    let app = app();
    let cases = [
        (json!({"prompt": null}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": {}}), "prompt"),
        (json!({"prompt": [true]}), "prompt[0]"),
        (json!({"prompt": ["a", 1]}), "prompt[1]"),
        (json!({"prompt": [1, "a"]}), "prompt[1]"),
        (json!({"prompt": [-1]}), "prompt[0]"),
        (json!({"prompt": [5_000_000_000_u64]}), "prompt[0]"),
        (json!({"prompt": [100_000]}), "prompt"),
        (json!({"prompt": [[]]}), "prompt[0]"),
        (json!({"prompt": vec!["a"; 129]}), "prompt"),
        (json!({"suffix": "end"}), "suffix"),
        (json!({"best_of": 2}), "best_of"),
        (json!({"logprobs": 6}), "logprobs"),
        (json!({"logprobs": 1, "echo": true}), "logprobs"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"messages": []}), "messages"),
    ];
    for (more, param) in cases {
        let answered = post(&app, PATH, request(more.clone())).await;
        assert_eq!(answered.status.as_u16(), 400, "{more}: {}", answered.text);
        assert_eq!(answered.json()["error"]["param"], param, "{more}: {}", answered.text);
    }
}

fn numbers(embedding: &Value) -> Vec<f64> {
    embedding.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[tokio::test]
async fn texts_have_vectors_which_do_not_depend_on_their_company() {
    let app = app();
    let embed = async |more: Value| {
        let mut body = json!({"model": MODEL, "input": "The dog ran."});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ask(&app, "/v1/embeddings", body).await
    };
    let alone = embed(json!({})).await;
    assert_eq!((&alone["object"], &alone["model"]), (&json!("list"), &json!(MODEL)));
    assert_eq!(alone["usage"]["prompt_tokens"], alone["usage"]["total_tokens"]);
    let vector = numbers(&alone["data"][0]["embedding"]);
    assert!((vector.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-5, "it has length 1");
    let texts: Vec<String> =
        (0..20).map(|i| format!("{i} cats")).chain(["The dog ran.".to_owned()]).collect();
    let many = embed(json!({"input": texts})).await;
    let data = many["data"].as_array().unwrap();
    assert!(data.len() == 21 && data.iter().enumerate().all(|(i, d)| d["index"] == i));
    assert_eq!(data[20]["embedding"], alone["data"][0]["embedding"]);
    assert_ne!(data[0]["embedding"], data[1]["embedding"]);
    let short = embed(json!({"dimensions": 8})).await;
    assert_eq!(numbers(&short["data"][0]["embedding"]).len(), 8);
    let base64 = embed(json!({"encoding_format": "base64"})).await;
    let text = base64["data"][0]["embedding"].as_str().unwrap();
    assert_eq!(text.len(), (4 * vector.len()).div_ceil(3) * 4);
    assert_eq!(embed(json!({"input": [1, 403]})).await["usage"]["prompt_tokens"], 2);
}

#[tokio::test]
async fn documents_are_ordered_by_how_near_they_are() {
    let app = app();
    let documents = json!(["A big red ball.", {"text": "The dog ran."}, "Lily was sad."]);
    let body =
        json!({"model": MODEL, "query": "The dog ran.", "documents": documents, "return_documents": true});
    let body = ask(&app, "/v1/rerank", body).await;
    let results = body["results"].as_array().unwrap();
    assert_eq!((results.len(), &results[0]["index"]), (3, &json!(1)));
    assert!((results[0]["relevance_score"].as_f64().unwrap() - 1.0).abs() < 1e-5);
    assert_eq!(results[0]["document"]["text"], "The dog ran.");
    let scores: Vec<f64> = results.iter().map(|r| r["relevance_score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b));
}

#[tokio::test]
async fn what_is_wrong_with_texts_is_told_with_its_place() {
    let app = app();
    let cases = [
        ("/v1/embeddings", json!({"model": MODEL}), "input"),
        (
            "/v1/embeddings",
            json!({"model": MODEL, "input": "x", "encoding_format": "hex"}),
            "encoding_format",
        ),
        ("/v1/embeddings", json!({"model": MODEL, "input": "x", "dimensions": 0}), "dimensions"),
        ("/v1/embeddings", json!({"model": MODEL, "input": "x", "dimensions": 1000}), "dimensions"),
        ("/v1/embeddings", json!({"model": MODEL, "input": [[70_000]]}), "input"),
        ("/v1/embeddings", json!({"model": "nobody", "input": "x"}), "model"),
        ("/v1/rerank", json!({"model": MODEL, "query": "q", "documents": []}), "documents"),
        ("/v1/rerank", json!({"model": MODEL, "query": "q", "documents": [3]}), "documents[0]"),
        ("/v1/rerank", json!({"model": MODEL, "documents": ["d"]}), "query"),
    ];
    for (path, body, param) in cases {
        assert_eq!(post(&app, path, body.clone()).await.json()["error"]["param"], param, "{body}");
    }
}
