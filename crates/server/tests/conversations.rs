//! `/api/conversations` over HTTP: any sequence of requests against a model of a few lines, and the edges.

use std::collections::BTreeMap;

use autarky_server::auth::Client;
use autarky_server::conversations;
use autarky_server::store::keys::KeyLimits;
use autarky_server::store::{Store, UnixTime};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::ServiceExt;

/// A server, and the secrets of its clients.
struct Server {
    runtime: tokio::runtime::Runtime,
    routes: Router,
    secrets: Vec<String>,
}

impl Server {
    fn new(clients: usize) -> Server {
        let store = Store::in_memory().unwrap();
        let key = |i| store.create_key(&format!("key {i}"), KeyLimits::default(), UnixTime::now()).unwrap().1;
        let secrets = (0..clients).map(key).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Server { runtime, routes: conversations::routes().with_state(store), secrets }
    }

    fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
        self.runtime.block_on(async {
            let response = self.routes.clone().oneshot(request).await.unwrap();
            let (parts, body) = response.into_parts();
            (parts.status, parts.headers, body.collect().await.unwrap().to_bytes().to_vec())
        })
    }

    fn raw(
        &self,
        client: usize,
        method: &str,
        path: &str,
        body: impl Into<Body>,
    ) -> (StatusCode, HeaderMap, Vec<u8>) {
        let mut request = Request::builder().method(method).uri(format!("/api/conversations{path}"));
        if let Some(secret) = self.secrets.get(client) {
            request = request.header("authorization", format!("Bearer {secret}"));
        }
        self.send(
            request.header("content-type", "application/json; charset=utf-8").body(body.into()).unwrap(),
        )
    }

    fn call(&self, client: usize, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, headers, body) = self.raw(client, method, path, body.to_string());
        assert_eq!(headers["cache-control"], "no-store");
        (status.as_u16(), serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

#[derive(Clone, Debug)]
enum Step {
    List,
    Create(String, Option<String>, Value),
    Read(usize, bool),
    /// Of the known conversations which, what, and how far the revision is from the right one.
    Update(usize, String, Value, u64),
    Delete(usize),
    DeleteAll,
}

fn document() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        ".{0,40}".prop_map(|text| json!({ "messages": [{ "content": text, "n": 1.5 }] })),
        prop::collection::vec(any::<i32>(), 0..40).prop_map(Value::from),
    ]
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        2 => Just(Step::List),
        4 => (".{0,20}", prop::option::of("[a-z:/]{1,10}"), document()).prop_map(|(t, m, d)| Step::Create(t, m, d)),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, export)| Step::Read(which, export)),
        4 => (any::<usize>(), ".{0,20}", document(), prop_oneof![3 => Just(0_u64), 1 => 1_u64..3])
            .prop_map(|(which, title, document, off)| Step::Update(which, title, document, off)),
        2 => any::<usize>().prop_map(Step::Delete),
        1 => Just(Step::DeleteAll),
    ];
    prop::collection::vec((0_usize..2, step), 1..40)
}

/// A conversation as the model has it.
#[derive(Clone, Debug)]
struct Known {
    owner: usize,
    title: String,
    model: Option<String>,
    document: Value,
    revision: u64,
}

impl Known {
    fn check(&self, id: &str, found: &Value, document: bool) {
        assert_eq!(found["id"], id);
        assert_eq!(found["title"], json!(self.title));
        assert_eq!(found["model"], json!(self.model));
        assert_eq!(found["revision"], self.revision);
        assert!(found["created"].as_u64().unwrap() <= found["updated"].as_u64().unwrap());
        assert_eq!(found.get("document"), document.then_some(&self.document));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sequence_of_requests_does_what_the_model_does(steps in steps()) {
        let server = Server::new(2);
        let mut known: BTreeMap<String, Known> = BTreeMap::new();
        let mut ids: Vec<String> = vec!["0".repeat(32), "nothing".into()];
        for (client, step) in steps {
            match step {
                Step::List => {
                    let (status, listed) = server.call(client, "GET", "", Value::Null);
                    assert_eq!(status, 200);
                    let listed = listed["conversations"].as_array().unwrap();
                    let mine = known.values().filter(|known| known.owner == client).count();
                    assert_eq!(listed.len(), mine);
                    assert!(listed.is_sorted_by_key(|c| std::cmp::Reverse(c["updated"].as_u64())));
                    for found in listed {
                        let id = found["id"].as_str().unwrap();
                        assert_eq!(known[id].owner, client);
                        known[id].check(id, found, false);
                    }
                }
                Step::Create(title, model, document) => {
                    let body = json!({ "title": title, "model": model, "document": document });
                    let (status, made) = server.call(client, "POST", "", body);
                    assert_eq!(status, 201);
                    let id = made["id"].as_str().unwrap().to_owned();
                    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()));
                    let new = Known { owner: client, title, model, document, revision: 1 };
                    new.check(&id, &made, false);
                    assert!(known.insert(id.clone(), new).is_none());
                    ids.push(id);
                }
                Step::Read(which, export) => {
                    let id = &ids[which % ids.len()];
                    let path = format!("/{id}{}", if export { "/export" } else { "" });
                    let (status, found) = server.call(client, "GET", &path, Value::Null);
                    match known.get(id).filter(|known| known.owner == client) {
                        Some(known) => {
                            assert_eq!(status, 200);
                            known.check(id, &found, true);
                        }
                        None => assert_eq!((status, &found["error"]["code"]), (404, &json!("not_found"))),
                    }
                }
                Step::Update(which, title, document, off) => {
                    let id = &ids[which % ids.len()];
                    let revision = known.get(id).map_or(1, |known| known.revision) + off;
                    let body = json!({ "title": title, "model": null, "document": document, "revision": revision });
                    let (status, found) = server.call(client, "PUT", &format!("/{id}"), body);
                    match known.get_mut(id).filter(|known| known.owner == client) {
                        Some(known) if off == 0 => {
                            let revision = revision + 1;
                            *known = Known { owner: client, title, model: None, document, revision };
                            assert_eq!(status, 200);
                            known.check(id, &found, false);
                        }
                        Some(known) => {
                            assert_eq!((status, &found["error"]["code"]), (409, &json!("conflict")));
                            known.check(id, &found["current"], true);
                        }
                        None => assert_eq!((status, &found["error"]["code"]), (404, &json!("not_found"))),
                    }
                }
                Step::Delete(which) => {
                    let id = &ids[which % ids.len()];
                    let (status, _) = server.call(client, "DELETE", &format!("/{id}"), Value::Null);
                    if known.get(id).is_some_and(|known| known.owner == client) {
                        assert_eq!(status, 200);
                        known.remove(id);
                    } else {
                        assert_eq!(status, 404);
                    }
                }
                Step::DeleteAll => {
                    let (status, deleted) = server.call(client, "DELETE", "", Value::Null);
                    let before = known.len();
                    known.retain(|_, known| known.owner != client);
                    assert_eq!((status, &deleted["deleted"]), (200, &json!(before - known.len())));
                }
            }
        }
    }
}

#[test]
fn without_a_key_that_works_there_is_only_401() {
    let mut server = Server::new(1);
    let (_, made) = server.call(0, "POST", "", json!({ "title": "", "document": 1 }));
    let one = format!("/{}", made["id"].as_str().unwrap());
    let export = format!("{one}/export");
    server.secrets.push(format!("ak-{}", "0".repeat(64)));
    let routes = [
        ("GET", ""),
        ("POST", ""),
        ("DELETE", ""),
        ("GET", &one),
        ("PUT", &one),
        ("DELETE", &one),
        ("GET", &export),
    ];
    for (method, path) in routes {
        for stranger in [1, 2] {
            let (status, headers, body) = server.raw(stranger, method, path, "{}");
            assert_eq!((status.as_u16(), &headers["www-authenticate"]), (401, &"Bearer".parse().unwrap()));
            assert!(serde_json::from_slice::<Value>(&body).unwrap()["error"]["message"].is_string());
        }
    }
    assert_eq!(server.call(0, "GET", &one, Value::Null).0, 200);
}

#[test]
fn an_open_server_keeps_conversations_of_nobody_in_particular() {
    let server = Server::new(0);
    let (status, made) = server.call(0, "POST", "", json!({ "title": "t", "model": "", "document": {} }));
    assert_eq!((status, &made["model"]), (201, &Value::Null));
    let (_, listed) = server.call(0, "GET", "", Value::Null);
    assert_eq!(listed["conversations"], json!([made]));
}

#[test]
fn bodies_that_are_not_as_they_should_be_are_refused() {
    let server = Server::new(1);
    let deep = format!("{{\"title\":\"\",\"document\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let long = json!({ "title": "x".repeat(501), "document": 1 }).to_string();
    let cases = [
        "",
        "null",
        "[]",
        "{}",
        "{\"title\":\"\"}",
        "{\"document\":1}",
        "{\"title\":1,\"document\":1}",
        "{\"title\":\"\",\"document\":1,\"document\":2}",
        "{\"title\":\"\",\"document\":1}x",
        "{\"title\":\"\",\"document\":1,\"revision\":-1}",
        "{\"title\":\"\\ud800\",\"document\":1}",
        &deep,
        &long,
    ];
    for body in cases {
        let (status, _, answer) = server.raw(0, "POST", "", body.to_owned());
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((status.as_u16(), &answer["error"]["code"]), (400, &json!("invalid_request")), "{answer}");
    }
    let (_, made) = server.call(0, "POST", "", json!({ "title": "", "document": 1 }));
    let path = format!("/{}", made["id"].as_str().unwrap());
    assert_eq!(server.call(0, "PUT", &path, json!({ "title": "", "document": 1 })).0, 400);
    // A form of another page can send text, and no JSON.
    let plain = Request::post("/api/conversations").header("x-api-key", &server.secrets[0]);
    let plain =
        plain.header("content-type", "text/plain").body(Body::from("{\"title\":\"\",\"document\":1}"));
    assert_eq!(server.send(plain.unwrap()).0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(server.call(0, "GET", "", Value::Null).1["conversations"].as_array().unwrap().len(), 1);
}

#[test]
fn a_document_has_eight_megabytes_and_no_more() {
    let server = Server::new(1);
    let body = |bytes: usize| format!("{{\"title\":\"\",\"document\":\"{}\"}}", "x".repeat(bytes - 2));
    let (status, _, made) = server.raw(0, "POST", "", body(8 << 20));
    assert_eq!(status, StatusCode::CREATED);
    let made: Value = serde_json::from_slice(&made).unwrap();
    let (_, _, read) = server.raw(0, "GET", &format!("/{}", made["id"].as_str().unwrap()), "");
    assert!(read.len() > 8 << 20);
    // One too many for the store, and far too many for the body.
    for bytes in [(8 << 20) + 1, 9 << 20] {
        let (status, _, answer) = server.raw(0, "POST", "", body(bytes));
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((status.as_u16(), &answer["error"]["code"]), (413, &json!("too_large")));
    }
}

#[test]
fn an_export_is_a_file_whose_name_is_safe_whatever_the_title() {
    let server = Server::new(1);
    for (title, name) in [
        ("What is 2 + 2?", "What-is-2-2.json"),
        ("\"; filename=\"x.exe\r\nSet-Cookie: a", "filename-x-exe-Set-Cookie-a.json"),
        ("../../etc/passwd", "etc-passwd.json"),
        ("Überraschung", "berraschung.json"),
        ("日本", "conversation.json"),
    ] {
        let (_, made) = server.call(0, "POST", "", json!({ "title": title, "document": [1] }));
        let path = format!("/{}/export", made["id"].as_str().unwrap());
        let (status, headers, body) = server.raw(0, "GET", &path, "");
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers["content-disposition"], format!("attachment; filename=\"{name}\""));
        assert_eq!(headers["content-type"], "application/json");
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["title"], &body["document"]), (&json!(title), &json!([1])));
    }
}

#[test]
fn ids_that_are_no_ids_are_not_found() {
    let server = Server::new(1);
    let long = format!("/{}", "a".repeat(60_000));
    for path in ["/%00", "/'%20OR%201=1", "/%E2%82%AC", &long] {
        assert_eq!(server.call(0, "GET", path, Value::Null).0, 404, "{path}");
    }
}

#[test]
fn a_handler_can_ask_for_the_client() {
    async fn who(client: Client) -> String {
        client.name
    }
    let store = Store::in_memory().unwrap();
    let (_, secret) = store.create_key("somebody", KeyLimits::default(), UnixTime::now()).unwrap();
    let routes = Router::new().route("/who", axum::routing::get(who)).with_state(store);
    let server = Server {
        runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
        routes,
        secrets: vec![],
    };
    let request = Request::get("/who").header("x-api-key", secret).body(Body::empty()).unwrap();
    assert_eq!(server.send(request).2, b"somebody");
}
