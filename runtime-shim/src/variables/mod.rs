//! Application variables: where their values come from, in which order, and
//! what a component sees of them. Values are never printed.

mod given;
mod provider;
mod vault;

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _};

use crate::manifest::Variable;
use crate::names::VariableName;
use crate::template::{Template, TemplateError};

pub use given::{Format, Given, GivenError};
pub use provider::Provider;
pub use vault::{Vault, VaultConfig, VaultError};

/// Variables that are looked up at once.
const CONCURRENCY: usize = 8;

/// Every application variable with its value.
#[derive(Clone, Default)]
pub struct Variables {
    values: BTreeMap<VariableName, String>,
    secret: BTreeSet<VariableName>,
}

/// Why the variables cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VariableError {
    /// A required variable that nobody gave.
    #[error(
        "variable `{name}` is required and has no value: give `--variable {name}=…` or set \
         `SPIN_VARIABLE_{}`",
        name.as_str().to_ascii_uppercase()
    )]
    Missing {
        /// The variable.
        name: VariableName,
    },
    /// A provider that does not answer as it should.
    #[error("`[[variables_provider]]` number {number} cannot tell variable `{name}`: {source}")]
    Provider {
        /// Counted from 1.
        number: usize,
        /// The variable.
        name: VariableName,
        /// What is wrong.
        source: VaultError,
    },
    /// A value for a variable that the manifest does not declare.
    #[error("`--variable {name}=…`: the manifest declares no variable `{name}`")]
    Undeclared {
        /// The variable.
        name: VariableName,
    },
    /// A template that mentions a variable that is not declared.
    #[error("{place} uses `{{{{ {name} }}}}`, which `[variables]` does not declare")]
    Unknown {
        /// Where the template stands.
        place: String,
        /// The variable.
        name: VariableName,
    },
    /// A template with a mistake in it.
    #[error("{place}: {source}")]
    Template {
        /// Where the template stands.
        place: String,
        /// The mistake.
        source: TemplateError,
    },
}

impl Variables {
    /// Looks every declared variable up: in `given` (from the command line, so
    /// an undeclared one is a mistake), then in each provider, then its default.
    pub async fn resolve(
        declared: &BTreeMap<VariableName, Variable>,
        given: BTreeMap<VariableName, String>,
        providers: &[Provider],
    ) -> Result<Self, VariableError> {
        if let Some(name) = given.keys().find(|name| !declared.contains_key(*name)) {
            return Err(VariableError::Undeclared { name: name.clone() });
        }
        let given = &given;
        let lookups = declared.iter().map(|(name, variable)| async move {
            let value = match given.get(name) {
                Some(value) => Some(value.clone()),
                None => provided(name, providers).await?,
            };
            let value = value
                .or_else(|| variable.default.clone())
                .ok_or_else(|| VariableError::Missing { name: name.clone() })?;
            Ok::<_, VariableError>((name.clone(), value))
        });
        let values = futures::stream::iter(lookups.collect::<Vec<_>>())
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        let secret = declared.iter().filter(|(_, variable)| variable.secret);
        let secret = secret.map(|(name, _)| name.clone()).collect();
        Ok(Self { values, secret })
    }

    /// Renders `source`; `place` says in an error where it stands.
    pub fn render(
        &self,
        source: &str,
        place: impl Fn() -> String,
    ) -> Result<String, VariableError> {
        parse(source, &place)?.render(|name| self.value(name, &place))
    }

    /// Renders `source`, which is a URL, where a password may hold any character.
    pub fn render_url(
        &self,
        source: &str,
        place: impl Fn() -> String,
    ) -> Result<String, VariableError> {
        parse(source, &place)?.render_url(|name| self.value(name, &place))
    }

    fn value(
        &self,
        name: &VariableName,
        place: impl Fn() -> String,
    ) -> Result<String, VariableError> {
        let value = self.values.get(name).cloned();
        value.ok_or_else(|| VariableError::Unknown {
            place: place(),
            name: name.clone(),
        })
    }

    /// Whether a value has a property.
    pub fn any(&self, has: impl Fn(&str) -> bool) -> bool {
        self.values.values().any(|value| has(value))
    }

    /// Whether `source` shows a secret when it is rendered.
    pub fn reveals_secret(&self, source: &str) -> bool {
        Template::parse(source)
            .is_ok_and(|template| template.variables().any(|name| self.secret.contains(name)))
    }
}

fn parse(source: &str, place: impl Fn() -> String) -> Result<Template, VariableError> {
    Template::parse(source).map_err(|source| VariableError::Template {
        place: place(),
        source,
    })
}

/// The value of the first provider that has one.
async fn provided(
    name: &VariableName,
    providers: &[Provider],
) -> Result<Option<String>, VariableError> {
    for (index, provider) in providers.iter().enumerate() {
        let value = provider.get(name).await;
        let value = value.map_err(|source| VariableError::Provider {
            number: index + 1,
            name: name.clone(),
            source,
        })?;
        if value.is_some() {
            return Ok(value);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(toml: &str) -> BTreeMap<VariableName, Variable> {
        toml::from_str(toml).expect("test variables")
    }

    fn name(s: &str) -> VariableName {
        VariableName::new(s).expect("test name")
    }

    fn env(pairs: &[(&str, &str)]) -> Provider {
        Provider::Environment {
            prefix: "SPIN_VARIABLE".into(),
            environment: pairs.iter().copied().collect(),
        }
    }

    #[tokio::test]
    async fn the_nearest_source_wins() {
        let declared =
            declared("a = { default = \"1\" }\nb = { default = \"1\" }\nc = { default = \"1\" }");
        let given = BTreeMap::from([(name("a"), "given".to_owned())]);
        let providers = [env(&[
            ("SPIN_VARIABLE_A", "env"),
            ("SPIN_VARIABLE_B", "env"),
        ])];
        let variables = Variables::resolve(&declared, given, &providers)
            .await
            .expect("all have values");
        let rendered = variables
            .render("{{a}} {{b}} {{c}}", || "test".into())
            .expect("declared");
        assert_eq!(rendered, "given env 1");
    }

    #[tokio::test]
    async fn a_password_within_a_url_is_encoded_and_nothing_else_is() {
        let declared = declared(
            "p = { default = \"a/b@c\" }\nh = { default = \"r-1.example.com\" }\n\
             u = { default = \"redis://:pw@h/1\" }",
        );
        let variables = Variables::resolve(&declared, BTreeMap::new(), &[])
            .await
            .expect("defaults");
        let url = |source| {
            let rendered = variables.render_url(source, || "test".into());
            rendered.expect("declared")
        };
        assert_eq!(
            url("redis://:{{ p }}@{{ h }}:6379"),
            "redis://:a%2Fb%40c@r-1.example.com:6379"
        );
        assert_eq!(url("{{u}}"), "redis://:pw@h/1");
    }

    #[tokio::test]
    async fn a_missing_value_says_how_to_give_it() {
        let error = Variables::resolve(
            &declared("db_url = { required = true }"),
            BTreeMap::new(),
            &[],
        )
        .await
        .err()
        .expect("no value");
        assert!(
            error.to_string().contains("SPIN_VARIABLE_DB_URL"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn undeclared_names_are_refused() {
        let given = BTreeMap::from([(name("unheard_of"), "x".to_owned())]);
        let error = Variables::resolve(&declared(""), given, &[])
            .await
            .err()
            .expect("undeclared");
        assert!(
            error.to_string().contains("no variable `unheard_of`"),
            "{error}"
        );
        let variables = Variables::default();
        let error = variables
            .render("{{ x }}", || "component `a`".into())
            .expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "component `a` uses `{{ x }}`, which `[variables]` does not declare"
        );
    }
}
