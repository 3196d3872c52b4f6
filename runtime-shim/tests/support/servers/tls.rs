//! A certificate authority of one test, and a certificate of it for 127.0.0.1 and localhost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// What clients have to trust.
pub(super) const CA_FILE: &str = "ca.pem";
pub(super) const CERTIFICATE_FILE: &str = "server.pem";
pub(super) const KEY_FILE: &str = "server.key";

/// Writes the three files into a folder.
pub(super) fn make(dir: &Path) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(DnType::CommonName, "Gristmill's tests");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();

    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let mut server = CertificateParams::new(names).unwrap();
    server
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    let key = KeyPair::generate().unwrap();
    let certificate = server.signed_by(&key, &authority).unwrap();

    fs::write(dir.join(CA_FILE), authority.pem()).unwrap();
    fs::write(dir.join(CERTIFICATE_FILE), certificate.pem()).unwrap();
    let key_file = dir.join(KEY_FILE);
    fs::write(&key_file, key.serialize_pem()).unwrap();
    // PostgreSQL refuses a key that others can read.
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
}
