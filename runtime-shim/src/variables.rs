//! Application variables: where their values come from, in which order, and
//! what a component sees of them. Values are never printed.

use std::collections::{BTreeMap, BTreeSet};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::manifest::Variable;
use crate::names::VariableName;
use crate::settings::Environment;
use crate::template::{Template, TemplateError};

/// One source of values. Spin: `[[variables_provider]]`.
#[derive(Clone, Debug)]
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
}

impl Provider {
    fn get(&self, name: &VariableName) -> Option<String> {
        match self {
            Self::Static(values) => values.get(name).cloned(),
            Self::Environment {
                prefix,
                environment,
            } => {
                let key = format!("{prefix}_{}", name.as_str().to_ascii_uppercase());
                environment.get(&key).map(str::to_owned)
            }
        }
    }
}

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
    pub fn resolve(
        declared: &BTreeMap<VariableName, Variable>,
        given: BTreeMap<VariableName, String>,
        providers: &[Provider],
    ) -> Result<Self, VariableError> {
        if let Some(name) = given.keys().find(|name| !declared.contains_key(*name)) {
            return Err(VariableError::Undeclared { name: name.clone() });
        }
        let given = Provider::Static(given);
        let mut values = BTreeMap::new();
        for (name, variable) in declared {
            let value = std::iter::once(&given)
                .chain(providers)
                .find_map(|provider| provider.get(name))
                .or_else(|| variable.default.clone())
                .ok_or_else(|| VariableError::Missing { name: name.clone() })?;
            values.insert(name.clone(), value);
        }
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
        self.render_each(source, place, str::to_owned)
    }

    fn render_each(
        &self,
        source: &str,
        place: impl Fn() -> String,
        encode: impl Fn(&str) -> String,
    ) -> Result<String, VariableError> {
        let template = Template::parse(source).map_err(|source| VariableError::Template {
            place: place(),
            source,
        })?;
        template.render(|name| {
            let value = self.values.get(name).map(|value| encode(value));
            value.ok_or_else(|| VariableError::Unknown {
                place: place(),
                name: name.clone(),
            })
        })
    }

    /// Renders `source`, which is a URL: a variable that is a part of it is
    /// percent-encoded, so that a password may hold any character.
    pub fn render_url(
        &self,
        source: &str,
        place: impl Fn() -> String,
    ) -> Result<String, VariableError> {
        let encode = |value: &str| {
            let whole = Template::parse(source).is_ok_and(|template| template.is_variable());
            if whole {
                value.to_owned()
            } else {
                utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()
            }
        };
        self.render_each(source, place, encode)
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

    #[test]
    fn the_nearest_source_wins() {
        let declared =
            declared("a = { default = \"1\" }\nb = { default = \"1\" }\nc = { default = \"1\" }");
        let given = BTreeMap::from([(name("a"), "given".to_owned())]);
        let providers = [env(&[
            ("SPIN_VARIABLE_A", "env"),
            ("SPIN_VARIABLE_B", "env"),
        ])];
        let variables = Variables::resolve(&declared, given, &providers).expect("all have values");
        let rendered = variables
            .render("{{a}} {{b}} {{c}}", || "test".into())
            .expect("declared");
        assert_eq!(rendered, "given env 1");
    }

    #[test]
    fn a_password_within_a_url_is_encoded_and_a_whole_url_is_not() {
        let declared = declared("p = { default = \"a/b@c\" }\nu = { default = \"redis://h/1\" }");
        let variables = Variables::resolve(&declared, BTreeMap::new(), &[]).expect("defaults");
        let url = |source| {
            variables
                .render_url(source, || "test".into())
                .expect("declared")
        };
        assert_eq!(url("redis://:{{ p }}@h"), "redis://:a%2Fb%40c@h");
        assert_eq!(url("{{u}}"), "redis://h/1");
    }

    #[test]
    fn a_missing_value_says_how_to_give_it() {
        let error = Variables::resolve(
            &declared("db_url = { required = true }"),
            BTreeMap::new(),
            &[],
        )
        .err()
        .expect("no value");
        assert!(
            error.to_string().contains("SPIN_VARIABLE_DB_URL"),
            "{error}"
        );
    }

    #[test]
    fn undeclared_names_are_refused() {
        let given = BTreeMap::from([(name("unheard_of"), "x".to_owned())]);
        let error = Variables::resolve(&declared(""), given, &[])
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
