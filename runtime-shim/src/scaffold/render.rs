//! `{{name}}` and `{{name | filter}}` in texts: as much of Liquid, in which Spin
//! writes its templates, as ours use. Anything else of it is an error.

/// Why a text cannot be rendered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RenderError {
    /// `{{` without its `}}`.
    #[error("`{{{{` without a closing `}}}}`")]
    Unclosed,
    /// `{%`.
    #[error("tags (`{{%`) are not rendered")]
    Tag,
    /// A value that nobody gives.
    #[error("there is no value `{0}`")]
    UnknownValue(String),
    /// A filter that is not here.
    #[error("there is no filter `{0}`")]
    UnknownFilter(String),
}

/// `text` with the values in place.
pub(super) fn render<'a>(
    text: &str,
    value: impl Fn(&str) -> Option<&'a str>,
) -> Result<String, RenderError> {
    if text.contains("{%") {
        return Err(RenderError::Tag);
    }
    let mut rendered = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once("{{") {
        let (inside, after) = tail.split_once("}}").ok_or(RenderError::Unclosed)?;
        let mut parts = inside.split('|').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let found = value(name).ok_or_else(|| RenderError::UnknownValue(name.to_owned()))?;
        rendered.push_str(before);
        rendered.push_str(&parts.try_fold(found.to_owned(), |text, name| filter(name, &text))?);
        rest = after;
    }
    rendered.push_str(rest);
    Ok(rendered)
}

fn filter(name: &str, text: &str) -> Result<String, RenderError> {
    match name {
        "kebab_case" => Ok(words(text).join("-")),
        "snake_case" => Ok(words(text).join("_")),
        _ => Err(RenderError::UnknownFilter(name.to_owned())),
    }
}

/// Names have no capitals here, so a word ends where letters and digits end.
fn words(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> Result<String, RenderError> {
        render(text, |name| match name {
            "project-name" => Some("my-plugin2"),
            "project-description" => Some("It's {mine}."),
            _ => None,
        })
    }

    #[test]
    fn values_and_filters_are_put_in_place() {
        for (text, expected) in [
            ("", ""),
            ("as { it } is }}", "as { it } is }}"),
            ("{{project-name}}", "my-plugin2"),
            ("a {{ project-name | kebab_case }}.", "a my-plugin2."),
            ("{{project-name|snake_case}}.wasm", "my_plugin2.wasm"),
            ("{{project-name | snake_case | kebab_case}}", "my-plugin2"),
            (
                "{{project-description}}{{project-name}}",
                "It's {mine}.my-plugin2",
            ),
        ] {
            assert_eq!(rendered(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        let unknown = RenderError::UnknownValue("authors".to_owned());
        assert_eq!(rendered("{{ authors }}"), Err(unknown));
        let unknown = RenderError::UnknownFilter("pascal_case".to_owned());
        assert_eq!(rendered("{{project-name | pascal_case}}"), Err(unknown));
        assert_eq!(rendered("{{project-name"), Err(RenderError::Unclosed));
        assert_eq!(rendered("{% raw %}"), Err(RenderError::Tag));
    }
}
