//! TLS between agents: each side has a certificate of the same authority, and the host's is made out to its address.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use crate::plan::TlsFiles;

/// A chain of certificates is short, and all of it is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Clone)]
pub(super) struct Tls {
    host: Arc<ServerConfig>,
    node: Arc<ClientConfig>,
    /// To whom a host's certificate is made out, if not to the address by which it is reached.
    name: Option<String>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Tls(..)")
    }
}

impl Tls {
    pub(super) fn read(files: &TlsFiles) -> io::Result<Self> {
        let chain = certificates("tls_cert", &files.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&contents("tls_key", &files.key)?)
            .map_err(|error| refused("tls_key", &files.key, &error.to_string()))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates("tls_ca", &files.authority)? {
            roots.add(certificate).map_err(|error| refused("tls_ca", &files.authority, &error.to_string()))?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), Arc::clone(&provider))
            .build()
            .map_err(|error| refused("tls_ca", &files.authority, &error.to_string()))?;
        let own = |error: rustls::Error| refused("tls_cert", &files.certificate, &error.to_string());
        let mut host = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(own)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(own)?;
        // Connections last as long as the run: there is nothing to resume.
        host.send_tls13_tickets = 0;
        let mut node = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(own)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(own)?;
        node.resumption = Resumption::disabled();
        Ok(Self { host: Arc::new(host), node: Arc::new(node), name: files.name.clone() })
    }

    /// The side that was connected to.
    pub(super) fn host(&self) -> Result<ServerConnection, rustls::Error> {
        ServerConnection::new(Arc::clone(&self.host))
    }

    /// The side that connects to a host at `address`.
    pub(super) fn node(&self, address: &str) -> Result<ClientConnection, String> {
        let name = self.name.as_deref().unwrap_or(address);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            format!("no certificate can be made out to '{name}'; give another by --rdzv-conf=tls_name=NAME")
        })?;
        ClientConnection::new(Arc::clone(&self.node), name).map_err(|error| error.to_string())
    }
}

fn certificates(key: &str, path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let bytes = contents(key, path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| refused(key, path, &error.to_string()))?;
    if all.is_empty() { Err(refused(key, path, "there is no certificate in it")) } else { Ok(all) }
}

fn contents(key: &str, path: &Path) -> io::Result<Vec<u8>> {
    let failed = |error: io::Error| refused(key, path, &error.to_string());
    let mut bytes = Vec::new();
    io::Read::read_to_end(
        &mut io::Read::take(std::fs::File::open(path).map_err(failed)?, FILE_BYTES_MAX + 1),
        &mut bytes,
    )
    .map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(refused(key, path, "it is larger than a file of certificates"));
    }
    Ok(bytes)
}

fn refused(key: &str, path: &Path, what: &str) -> io::Error {
    let what = format!("--rdzv-conf={key}={}: {what}. Give a file in PEM form", path.display());
    io::Error::new(ErrorKind::InvalidData, what)
}

/// What is wrong with a connection, for whoever looks at both sides' certificates.
pub(super) fn explained(error: &io::Error) -> String {
    format!("{error}. See tls_cert, tls_key, tls_ca and tls_name of both nodes, and their clocks")
}
