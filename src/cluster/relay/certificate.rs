//! The server's side of TLS: certificate and key from one PEM file, read anew when that has changed, as a Secret's does
//! when it is renewed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;

use super::LOOK_INTERVAL;
use crate::core::Uptime;
use crate::error::{Error, Exit, Result};
use crate::os::files::safe_open;

/// A chain of a few certificates and a key take some KiB.
const MAX_BYTES: u64 = 256 * 1024;
#[derive(Debug)]
pub struct Certificate {
    path: PathBuf,
    content: Vec<u8>,
    looked_at: Uptime,
}

impl Certificate {
    /// # Errors
    /// `Exit::Settings`: the file cannot be read, or is not a chain of certificates and the key of the first.
    pub fn read(path: &Path, now: Uptime) -> Result<(Certificate, Arc<ServerConfig>)> {
        let content = content(path)?;
        let tls = server_config(path, &content)?;
        Ok((Certificate { path: path.to_owned(), content, looked_at: now }, tls))
    }

    /// The new one, if there is another in the file; looked for once a minute at most. One that cannot be used is
    /// logged once, and the present one is kept.
    pub fn renewed(&mut self, now: Uptime) -> Option<Arc<ServerConfig>> {
        if now < self.looked_at + LOOK_INTERVAL {
            return None;
        }
        self.looked_at = now;
        // A file that is just being replaced is there again in a minute.
        let content = content(&self.path).ok().filter(|content| *content != self.content)?;
        let tls = server_config(&self.path, &content);
        self.content = content;
        match tls {
            Ok(tls) => {
                log::info!(path:% = self.path.display(); "the relay's certificate has changed");
                Some(tls)
            }
            Err(error) => {
                log::error!(error:%; "the relay keeps its former certificate");
                None
            }
        }
    }
}

fn content(path: &Path) -> Result<Vec<u8>> {
    let failed = |error| Error::because(Exit::Settings, "relay-certificate cannot be read", error);
    safe_open::read(path, MAX_BYTES).map_err(failed)
}

fn server_config(path: &Path, pem: &[u8]) -> Result<Arc<ServerConfig>> {
    let unusable = |cause: String| {
        let what = format!("relay-certificate cannot be used: {}", path.display());
        Error::because(Exit::Settings, what, cause)
    };
    let chain = CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| unusable(format!("{error}")))?;
    if chain.is_empty() {
        return Err(unusable("there is no certificate in it; it takes a PEM file with the chain and its key".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        unusable("there is no private key in it; it takes a PEM file with the chain and its key".into())
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.map(|tls| tls.with_no_client_auth().with_single_cert(chain, key));
    let mut tls = tls.flatten().map_err(|error| unusable(error.to_string()))?;
    // Nobody comes back within a minute, and what is not kept takes no memory.
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;
    use crate::os::unix::files::test_dir::Dir;

    fn pem() -> (String, String) {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["relay".to_string()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    #[test]
    fn a_chain_and_its_key_make_a_server_and_nothing_else_does() {
        let dir = Dir::new();
        let path = dir.path().join("relay.pem");
        let ((cert, key), (_, other_key)) = (pem(), pem());
        let read = |content: &str| {
            std::fs::write(&path, content).unwrap();
            Certificate::read(&path, Uptime::ZERO).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(read(&format!("{cert}{key}")), Ok(()));
        assert_eq!(read(&format!("{key}{cert}{cert}")), Ok(()));
        for (content, expected) in [
            (key.clone(), "no certificate"),
            (cert.clone(), "no private key"),
            (String::new(), "no certificate"),
            (format!("{cert}{other_key}"), "relay.pem"),
            (cert.replace("MII", "AAA") + &key, "relay.pem"),
        ] {
            let error = read(&content).unwrap_err();
            assert!(error.contains(expected) && !error.contains(&key[40..80]), "{error}");
        }
    }

    #[test]
    fn a_file_that_has_changed_is_read_anew_and_a_bad_one_changes_nothing() {
        let dir = Dir::new();
        let path = dir.path().join("relay.pem");
        let write = |content: &str| std::fs::write(&path, content).unwrap();
        let (cert, key) = pem();
        write(&(cert + &key));
        let (mut certificate, _) = Certificate::read(&path, Uptime::ZERO).unwrap();
        let (cert, key) = pem();
        write(&(cert.clone() + &key));
        assert!(certificate.renewed(LOOK_INTERVAL / 2).is_none(), "not looked at yet");
        assert!(certificate.renewed(LOOK_INTERVAL).is_some());
        write("nonsense");
        assert!(certificate.renewed(LOOK_INTERVAL * 2).is_none());
        write(&(cert + &key));
        assert!(certificate.renewed(LOOK_INTERVAL * 3).is_some());
        std::fs::remove_file(&path).unwrap();
        assert!(certificate.renewed(LOOK_INTERVAL * 4).is_none());
    }
}
