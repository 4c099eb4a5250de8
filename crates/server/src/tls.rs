//! HTTPS by files: a certificate chain and its key in PEM (RFC 7468), TLS 1.2 and 1.3, nothing to fetch or renew.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{InconsistentKeys, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
pub use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a client may take until the connection is encrypted.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

/// Bytes of a PEM file; a chain has a few thousand.
const MAX_FILE: u64 = 1 << 20;

/// Why there is no HTTPS with these files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The fields are named in each variant's message.
pub enum TlsError {
    /// The file cannot be read.
    #[error("{path}: cannot read it: {source}; check the path and its permissions", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The file is far too large.
    #[error("{path}: larger than {MAX_FILE} bytes; give a PEM file", path = .path.display())]
    TooLarge { path: PathBuf },
    /// There is a start of a section, but no section.
    #[error("{path}: damaged PEM: {reason}; write the file again", path = .path.display())]
    Pem { path: PathBuf, reason: String },
    /// No certificate in the file.
    #[error(
        "{path}: there is no certificate inside; give a PEM file with `BEGIN CERTIFICATE`, the server's own first",
        path = .path.display()
    )]
    NoCertificate { path: PathBuf },
    /// No key in the file.
    #[error(
        "{path}: there is no private key inside; give a PEM file with `BEGIN PRIVATE KEY`, without a password",
        path = .path.display()
    )]
    NoKey { path: PathBuf },
    /// A key with a password.
    #[error(
        "{path}: the private key has a password; write it without one, as `openssl pkey -in FILE` does, and protect \
         the file by its permissions",
        path = .path.display()
    )]
    EncryptedKey { path: PathBuf },
    /// The key is another certificate's.
    #[error(
        "{key}: this key does not fit the first certificate of {certificate}; give the two that were made together, \
         and the server's own certificate first",
        key = .key.display(), certificate = .certificate.display()
    )]
    KeyDoesNotFit { certificate: PathBuf, key: PathBuf },
    /// The certificate or the key is of a kind that cannot be used.
    #[error(
        "{certificate}, {key}: {reason}; use an RSA key of 2048 bits or more, ECDSA with P-256 or P-384, or Ed25519",
        key = .key.display(), certificate = .certificate.display()
    )]
    Unusable { certificate: PathBuf, key: PathBuf, reason: String },
}

/// What turns a connection into an encrypted one, with the chain in `certificate` and its key in `key`. HTTP/1.1 is
/// the protocol that it offers.
///
/// # Errors
/// When a file cannot be read, has not in it what it should, or the two do not fit each other.
pub fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let chain = certificates(certificate)?;
    let private = private_key(key)?;
    let unusable = |error: rustls::Error| {
        let (certificate, key) = (certificate.to_path_buf(), key.to_path_buf());
        match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::KeyDoesNotFit { certificate, key }
            }
            other => TlsError::Unusable { certificate, key, reason: other.to_string() },
        }
    };
    // By name, and not the process's default: that would be whichever one another crate installs.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Encrypts a connection that was just accepted, within [`HANDSHAKE`]. Not to be awaited in the loop that accepts:
/// one slow client would hold up the others.
///
/// # Errors
/// When the client does not speak TLS, takes too long, or goes.
pub async fn accept<C>(acceptor: &TlsAcceptor, connection: C) -> io::Result<TlsStream<C>>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(connection)).await {
        Ok(accepted) => accepted,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client did not finish the TLS handshake")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(TlsError::TooLarge { path: path.to_path_buf() });
    }
    Ok(bytes)
}

fn damaged(path: &Path, error: &pem::Error) -> TlsError {
    TlsError::Pem { path: path.to_path_buf(), reason: error.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| damaged(path, &error))?;
    if chain.is_empty() { Err(TlsError::NoCertificate { path: path.to_path_buf() }) } else { Ok(chain) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path)?;
    let path_buf = || path.to_path_buf();
    match PrivateKeyDer::from_pem_slice(&bytes) {
        // The old form says so in a header within the section, which is no base64.
        _ if contains(&bytes, b"ENCRYPTED") => Err(TlsError::EncryptedKey { path: path_buf() }),
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(TlsError::NoKey { path: path_buf() }),
        Err(error) => Err(damaged(path, &error)),
    }
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}
