//! HTTPS: a handshake with a client that trusts the test's authority, and files that are not what they should be.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use autarky_server::tls::{self, TlsError};
use rustls::client::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsConnector;

/// What `make.sh` made; the certificates are valid from the end of 2026 for a hundred years.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

/// A clock that does not depend on the machine's.
#[derive(Debug)]
struct Fixed;

impl TimeProvider for Fixed {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(2_000_000_000)))
    }
}

fn connector(version: &'static SupportedProtocolVersion) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixture("authority.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(Fixed))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

#[test]
fn bytes_go_through_both_versions_of_tls() {
    let acceptor = tls::acceptor(&fixture("chain.pem"), &fixture("key.pem")).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (near, far) = duplex(1 << 16);
        let name = ServerName::try_from("localhost").unwrap();
        runtime().block_on(async {
            let connector = connector(version);
            let (server, client) = tokio::join!(tls::accept(&acceptor, far), connector.connect(name, near));
            let (mut server, mut client) = (server.unwrap(), client.unwrap());
            assert_eq!(client.get_ref().1.protocol_version(), Some(version.version));
            assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
            client.write_all(b"ping").await.unwrap();
            client.flush().await.unwrap();
            let mut received = [0; 4];
            server.read_exact(&mut received).await.unwrap();
            assert_eq!(&received, b"ping");
        });
    }
}

#[test]
fn a_client_that_says_nothing_is_let_go() {
    let acceptor = tls::acceptor(&fixture("chain.pem"), &fixture("key.pem")).unwrap();
    let (_near, far) = duplex(64);
    // The clock of a paused runtime jumps when all wait.
    let error = runtime().block_on(tls::accept(&acceptor, far)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn a_client_that_speaks_no_tls_is_an_error() {
    let acceptor = tls::acceptor(&fixture("chain.pem"), &fixture("key.pem")).unwrap();
    let (mut near, far) = duplex(1024);
    let error = runtime().block_on(async {
        near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        tls::accept(&acceptor, far).await.unwrap_err()
    });
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

fn error(certificate: &Path, key: &Path) -> TlsError {
    tls::acceptor(certificate, key).map(drop).unwrap_err()
}

#[test]
fn files_that_do_not_do_are_refused_by_name() {
    let (chain, key) = (fixture("chain.pem"), fixture("key.pem"));
    type Expected = fn(&TlsError) -> bool;
    let cases: [(PathBuf, PathBuf, Expected, &str); 7] = [
        (fixture("none.pem"), key.clone(), |e| matches!(e, TlsError::Read { .. }), "none.pem"),
        (chain.clone(), fixture("none.pem"), |e| matches!(e, TlsError::Read { .. }), "none.pem"),
        (key.clone(), key.clone(), |e| matches!(e, TlsError::NoCertificate { .. }), "key.pem"),
        (chain.clone(), chain.clone(), |e| matches!(e, TlsError::NoKey { .. }), "chain.pem"),
        (
            chain.clone(),
            fixture("encrypted-key.pem"),
            |e| matches!(e, TlsError::EncryptedKey { .. }),
            "encrypted",
        ),
        (
            chain.clone(),
            fixture("other-key.pem"),
            |e| matches!(e, TlsError::KeyDoesNotFit { .. }),
            "other-key.pem",
        ),
        // The authority's certificate is another's.
        (
            fixture("authority.pem"),
            key.clone(),
            |e| matches!(e, TlsError::KeyDoesNotFit { .. }),
            "authority.pem",
        ),
    ];
    for (certificate, key, expected, named) in cases {
        let error = error(&certificate, &key);
        assert!(expected(&error) && error.to_string().contains(named), "{error:?}: {error}");
    }
}

#[test]
fn damaged_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.pem");
    let key = fixture("key.pem");
    let whole = std::fs::read_to_string(fixture("chain.pem")).unwrap();
    for text in [
        String::new(),
        whole[..200].to_owned(),
        whole.replace("MII", "M*I"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
        "x".repeat(2 << 20),
    ] {
        std::fs::write(&path, &text).unwrap();
        let error = error(&path, &key);
        let expected = matches!(
            error,
            TlsError::NoCertificate { .. }
                | TlsError::Pem { .. }
                | TlsError::Unusable { .. }
                | TlsError::TooLarge { .. }
        );
        assert!(expected && error.to_string().contains("some.pem"), "{error:?}");
    }
}
