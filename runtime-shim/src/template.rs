//! Spin's string templates: text with `{{ variable }}` in it.

use crate::names::{InvalidName, VariableName};

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(VariableName),
}

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    /// `{{` without its `}}`.
    #[error("`{{{{` without a closing `}}}}` in `{0}`")]
    Unclosed(String),
    /// The text between the braces is not a variable's name.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl Template {
    /// Parses `source`; a text without `{{` is a template of itself.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some((text, tail)) = rest.split_once("{{") {
            let Some((name, tail)) = tail.split_once("}}") else {
                return Err(TemplateError::Unclosed(source.to_owned()));
            };
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
            parts.push(Part::Variable(VariableName::new(name.trim())?));
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// The variables it mentions.
    pub fn variables(&self) -> impl Iterator<Item = &VariableName> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(name),
            Part::Text(_) => None,
        })
    }

    /// Whether it is one variable and nothing else.
    pub fn is_variable(&self) -> bool {
        matches!(self.parts[..], [Part::Variable(_)])
    }

    /// Puts values in place; `lookup` fails for a variable it does not know.
    pub fn render<E>(
        &self,
        mut lookup: impl FnMut(&VariableName) -> Result<String, E>,
    ) -> Result<String, E> {
        let mut rendered = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => rendered.push_str(text),
                Part::Variable(name) => rendered.push_str(&lookup(name)?),
            }
        }
        Ok(rendered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, expected: &str) {
        let template = Template::parse(source).expect("a valid template");
        let rendered = template
            .render(|name| Ok::<_, ()>(format!("<{name}>")))
            .expect("every variable is known");
        assert_eq!(rendered, expected, "{source}");
    }

    #[test]
    fn renders_text_and_variables() {
        check("", "");
        check("plain", "plain");
        check("{{a}}", "<a>");
        check("x{{ a }}y{{b_c}}z", "x<a>y<b_c>z");
        check("one } brace { alone", "one } brace { alone");
    }

    #[test]
    fn refuses_what_it_cannot_mean() {
        assert!(matches!(
            Template::parse("{{ a"),
            Err(TemplateError::Unclosed(_))
        ));
        assert!(matches!(
            Template::parse("{{ A }}"),
            Err(TemplateError::Name(_))
        ));
        assert!(matches!(
            Template::parse("{{}}"),
            Err(TemplateError::Name(_))
        ));
    }
}
