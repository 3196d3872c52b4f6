//! What keeps a request from its answer, and what the caller is told of it. The
//! reason goes to the log alone: it may name addresses.

use reply::Reply;

/// Why a request could not be answered as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the accounts database: {0}")]
    Accounts(#[from] database::Error),
    #[error("the session store: {0}")]
    Sessions(String),
    #[error(transparent)]
    Setting(#[from] settings::Error),
    #[error("a password cannot be hashed or compared: {0}")]
    Password(#[from] argon2::password_hash::Error),
    #[error("the host gives no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
}

impl Failure {
    /// What the caller is told.
    pub(crate) fn reply(&self) -> Reply {
        match self {
            Self::Accounts(_) => {
                Reply::unavailable("the accounts database cannot be reached now; try again")
            }
            Self::Sessions(_) => {
                Reply::unavailable("the session store cannot be reached now; try again")
            }
            Self::Setting(error) => Reply::problem(500, &error.to_string()),
            Self::Password(_) | Self::Randomness(_) => {
                Reply::problem(500, "the request could not be completed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_learns_what_failed_and_not_why() {
        let reason = || "10.0.0.7 refused".to_owned();
        for (failure, status, text) in [
            (
                Failure::Accounts(database::Error::Failed(reason())),
                503,
                "the accounts database",
            ),
            (Failure::Sessions(reason()), 503, "the session store"),
            (
                Failure::Setting(settings::Error::Flag {
                    name: "x".to_owned(),
                }),
                500,
                "variable `x`",
            ),
            (
                Failure::Password(argon2::password_hash::Error::Crypto),
                500,
                "could not be completed",
            ),
        ] {
            let reply = failure.reply();
            assert_eq!(reply.status, status);
            let retry_after = (status == 503).then_some("1");
            assert_eq!(reply.header("retry-after"), retry_after);
            let body = String::from_utf8(reply.body).unwrap();
            assert!(body.contains(text) && !body.contains("10.0.0.7"), "{body}");
        }
    }
}
