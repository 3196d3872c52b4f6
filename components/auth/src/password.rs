//! Passwords as they are stored: Argon2id (RFC 9106) in PHC strings, which name
//! their parameters.

use argon2::password_hash::{self, PasswordHasher, PasswordVerifier, phc::PasswordHash};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Params, Version};

use crate::credentials::Password;

/// KiB of memory for one hash; OWASP's recommendation, as the two that follow.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// The length that the PHC specification recommends.
pub(crate) const SALT_BYTES: usize = 16;

/// For attempts at unknown names. Nothing is compared with the result.
const NO_SALT: [u8; SALT_BYTES] = [0; SALT_BYTES];

/// What became of comparing a password with an account's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Wrong,
    Right {
        /// It is stored by other parameters than today's.
        is_outdated: bool,
    },
}

/// A password for storing; a PHC string.
pub(crate) fn hash(
    password: &Password,
    salt: [u8; SALT_BYTES],
) -> Result<String, password_hash::Error> {
    let hash: PasswordHash =
        hasher()?.hash_password_with_salt(password.text().as_bytes(), &salt)?;
    Ok(hash.to_string())
}

/// Compares in constant time. Without an account it takes as long, and is wrong.
pub(crate) fn verify(
    password: &Password,
    stored: Option<&str>,
) -> Result<Verdict, password_hash::Error> {
    let Some(stored) = stored else {
        std::hint::black_box(hash(password, NO_SALT)?);
        return Ok(Verdict::Wrong);
    };
    let stored = PasswordHash::new(stored).map_err(|_| password_hash::Error::EncodingInvalid)?;
    match hasher()?.verify_password(password.text().as_bytes(), &stored) {
        Ok(()) => Ok(Verdict::Right {
            is_outdated: !is_current(&stored),
        }),
        Err(password_hash::Error::PasswordInvalid) => Ok(Verdict::Wrong),
        Err(error) => Err(error),
    }
}

fn is_current(stored: &PasswordHash) -> bool {
    let version = stored.version == Some(Version::V0x13.into());
    let costs = Params::try_from(stored).map(|it| (it.m_cost(), it.t_cost(), it.p_cost()));
    let current = (MEMORY_KIB, PASSES, LANES);
    stored.algorithm == ARGON2ID_IDENT && version && costs.is_ok_and(|costs| costs == current)
}

fn hasher() -> Result<Argon2<'static>, password_hash::Error> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: [u8; SALT_BYTES] = *b"0123456789abcdef";

    #[test]
    fn a_stored_password_names_its_parameters_and_not_itself() {
        let stored = hash(&"correct horse".into(), SALT).unwrap();
        let head = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$";
        assert!(stored.starts_with(head), "{stored}");
        let other = hash(&"correct horse".into(), NO_SALT).unwrap();
        assert_ne!(stored[head.len()..], other[head.len()..]);
    }

    #[test]
    fn only_the_right_password_is_right() {
        let stored = hash(&"correct horse".into(), SALT).unwrap();
        let verdict = |password: &str| verify(&password.into(), Some(&stored)).unwrap();
        let right = Verdict::Right { is_outdated: false };
        assert_eq!(verdict("correct horse"), right);
        for password in ["correct hors", "Correct horse", "correct horse ", ""] {
            assert_eq!(verdict(password), Verdict::Wrong, "{password}");
        }
    }

    #[test]
    fn without_an_account_every_password_is_wrong() {
        assert_eq!(verify(&"".into(), None).unwrap(), Verdict::Wrong);
        assert_eq!(
            verify(&"correct horse".into(), None).unwrap(),
            Verdict::Wrong
        );
    }

    #[test]
    fn other_parameters_are_outdated_and_still_right() {
        for (algorithm, memory, passes, lanes) in [
            (Algorithm::Argon2id, 8192, 2, 1),
            (Algorithm::Argon2id, MEMORY_KIB, 1, 1),
            (Algorithm::Argon2id, MEMORY_KIB, 2, 2),
            (Algorithm::Argon2i, MEMORY_KIB, 2, 1),
        ] {
            let params = Params::new(memory, passes, lanes, None).unwrap();
            let hasher = Argon2::new(algorithm, Version::V0x13, params);
            let stored: PasswordHash = hasher.hash_password_with_salt(b"secret", &SALT).unwrap();
            let verdict = verify(&"secret".into(), Some(&stored.to_string())).unwrap();
            assert_eq!(verdict, Verdict::Right { is_outdated: true });
        }
    }

    #[test]
    fn a_damaged_record_is_an_error_and_never_right() {
        for stored in ["", "secret", "$argon2id$", "$2b$12$abc"] {
            assert!(verify(&"secret".into(), Some(stored)).is_err(), "{stored}");
        }
    }
}
