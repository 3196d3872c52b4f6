//! Where values come from. Spin: `[[variables_provider]]`.

use std::collections::BTreeMap;
use std::fmt;

use super::vault::{Vault, VaultError};
use crate::names::VariableName;
use crate::settings::Environment;

/// One source of values.
pub enum Provider {
    /// Values given literally, by `--variable` or by the runtime configuration.
    Static(BTreeMap<VariableName, String>),
    /// `<PREFIX>_<NAME>` in an environment.
    Environment {
        /// Usually `SPIN_VARIABLE`.
        prefix: String,
        /// Where to look.
        environment: Environment,
    },
    /// A secrets engine over HTTP.
    Vault(Box<Vault>),
}

impl Provider {
    /// Its value for `name`, if it has one.
    pub(super) async fn get(&self, name: &VariableName) -> Result<Option<String>, VaultError> {
        match self {
            Self::Static(values) => Ok(values.get(name).cloned()),
            Self::Environment {
                prefix,
                environment,
            } => {
                let key = format!("{prefix}_{}", name.as_str().to_ascii_uppercase());
                Ok(environment.get(&key).map(str::to_owned))
            }
            Self::Vault(vault) => vault.get(name).await,
        }
    }
}

/// Without the values.
impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(values) => write!(f, "Static({:?})", values.keys()),
            Self::Environment { prefix, .. } => write!(f, "Environment({prefix:?})"),
            Self::Vault(vault) => write!(f, "Vault({:?})", vault.host()),
        }
    }
}
