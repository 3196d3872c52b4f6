//! What a queue's filter may say, checked at start: patterns in the manner of
//! Amazon EventBridge (EventBridge User Guide, "Creating Amazon EventBridge event
//! patterns"; Lambda Developer Guide, "Control which events Lambda sends to your
//! function"). What matches is decided in `queue/filter`.

use serde::Deserialize;
use serde_json::{Map, Number, Value};

/// Filters of one component.
const MAX_FILTERS: usize = 10;
/// Conditions of one filter, and alternatives of one condition.
const MAX_CONDITIONS: usize = 100;
const MAX_DEPTH: usize = 32;

/// What becomes of a message that no filter matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mismatch {
    /// It is deleted, as Lambda does.
    #[default]
    Ack,
    /// It keeps its visibility timeout and comes back when that ends.
    Keep,
    /// It goes to the dead-letter queue, with the reason.
    DeadLetter,
}

/// The filters of one component: a message is wanted if one of them matches it.
#[derive(Clone, Debug, PartialEq)]
pub struct Filters(pub(crate) Vec<Filter>);

/// Conditions that all must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter {
    pub(crate) body: Option<Body>,
    /// By the name of a custom attribute.
    pub(crate) attributes: Vec<(String, Vec<Test>)>,
}

/// What a body must be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    /// As text, JSON or not.
    Text(Vec<Test>),
    /// JSON whose values satisfy these.
    Json(Vec<(Pointer, Vec<Test>)>),
}

/// The way to a value: the reference tokens of a JSON pointer (RFC 6901), unescaped.
pub(crate) type Pointer = Vec<String>;

/// One alternative of a condition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    Equals(Value),
    EqualsIgnoreCase(String),
    Prefix(String),
    Suffix(String),
    Numeric(Vec<(Comparison, Number)>),
    Exists(bool),
    AnythingBut(Vec<Test>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Why a filter says nothing that can be matched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Neither a table nor a list of tables.
    #[error("a filter is a table with `body`, `attributes` or both, or a list of such tables")]
    NoTable,
    /// An empty list, or too long a one.
    #[error("{count} filters, allowed are 1 to {MAX_FILTERS}")]
    Filters {
        /// How many there are.
        count: usize,
    },
    /// A filter that says nothing would let everything through.
    #[error("a filter has no condition: give it `body` or `attributes`")]
    Empty,
    /// A misspelt key.
    #[error("`{key}` is no part of a filter: there are `body` and `attributes`")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// A bound.
    #[error("`{place}` has {count} conditions or alternatives, allowed are 1 to {MAX_CONDITIONS}")]
    Count {
        /// Where it stands.
        place: String,
        /// How many there are.
        count: usize,
    },
    /// Another bound.
    #[error("`{place}` is nested deeper than {MAX_DEPTH}")]
    TooDeep {
        /// Where it stands.
        place: String,
    },
    /// A pattern that is no list.
    #[error("`{place}` is {found}, expected {expected}")]
    Shape {
        /// Where it stands.
        place: String,
        /// What stands there.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// A name that starts with `$`, which means something in EventBridge.
    #[error("`{place}`: `{key}` is not supported: for alternatives, write a list of filters")]
    Reserved {
        /// Where it stands.
        place: String,
        /// The key.
        key: String,
    },
    /// A test that does not exist.
    #[error(
        "`{place}`: there is no test `{name}`, but `prefix`, `suffix`, `equals-ignore-case`, \
         `numeric`, `exists` and `anything-but`"
    )]
    UnknownTest {
        /// Where it stands.
        place: String,
        /// What it is called.
        name: String,
    },
    /// A range that nothing can be in.
    #[error("`{place}`: no number satisfies `numeric` {range}")]
    EmptyRange {
        /// Where it stands.
        place: String,
        /// As it was written.
        range: String,
    },
}

const A_LIST: &str = "a list of values and tests, such as `[\"a\", { prefix = \"b\" }]`";
const A_TEST: &str = "a table with one test, such as `{ prefix = \"b\" }`";
const A_RANGE: &str =
    "comparisons and numbers in turn, such as `[\">=\", 0, \"<\", 10]` (`=`, `<`, `<=`, `>`, `>=`)";

impl Filters {
    /// Reads what stands in the manifest, or on a command line.
    pub fn parse(value: &Value) -> Result<Self, FilterError> {
        let filters = match value {
            Value::Object(_) => vec![parse_filter(value)?],
            Value::Array(list) if (1..=MAX_FILTERS).contains(&list.len()) => {
                list.iter().map(parse_filter).collect::<Result<_, _>>()?
            }
            Value::Array(list) => return Err(FilterError::Filters { count: list.len() }),
            _ => return Err(FilterError::NoTable),
        };
        Ok(Self(filters))
    }
}

fn parse_filter(value: &Value) -> Result<Filter, FilterError> {
    let table = value.as_object().ok_or(FilterError::NoTable)?;
    let mut filter = Filter::default();
    for (key, value) in table {
        match key.as_str() {
            "body" => filter.body = Some(parse_body(value)?),
            "attributes" => filter.attributes = parse_attributes(value)?,
            _ => return Err(FilterError::UnknownKey { key: key.clone() }),
        }
    }
    if filter.body.is_none() && filter.attributes.is_empty() {
        return Err(FilterError::Empty);
    }
    Ok(filter)
}

fn parse_body(value: &Value) -> Result<Body, FilterError> {
    match value {
        Value::Array(_) => Ok(Body::Text(parse_tests("body", value)?)),
        Value::Object(table) => {
            let mut conditions = Vec::new();
            parse_members("body", &Vec::new(), table, &mut conditions)?;
            bounded("body", conditions.len())?;
            Ok(Body::Json(conditions))
        }
        _ => Err(shape(
            "body",
            value,
            "a table of JSON pointers or names, or a list of tests of the whole text",
        )),
    }
}

/// Keys that begin with `/` are JSON pointers; others are names of members, whose
/// tables go deeper.
fn parse_members(
    place: &str,
    above: &Pointer,
    table: &Map<String, Value>,
    conditions: &mut Vec<(Pointer, Vec<Test>)>,
) -> Result<(), FilterError> {
    bounded(place, table.len())?;
    for (key, value) in table {
        if key.starts_with('$') {
            return Err(FilterError::Reserved {
                place: place.to_owned(),
                key: key.clone(),
            });
        }
        let mut pointer = above.clone();
        match key.strip_prefix('/') {
            Some(tokens) => pointer.extend(tokens.split('/').map(unescape)),
            None => pointer.push(key.clone()),
        }
        let place = format!("{place}.{key}");
        if pointer.len() > MAX_DEPTH {
            return Err(FilterError::TooDeep { place });
        }
        match value {
            Value::Object(deeper) => parse_members(&place, &pointer, deeper, conditions)?,
            tests => conditions.push((pointer, parse_tests(&place, tests)?)),
        }
    }
    Ok(())
}

fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

fn parse_attributes(value: &Value) -> Result<Vec<(String, Vec<Test>)>, FilterError> {
    let table = value.as_object().ok_or_else(|| {
        shape(
            "attributes",
            value,
            "a table of attributes' names, each with a list of tests",
        )
    })?;
    bounded("attributes", table.len())?;
    let parse = |(name, tests): (&String, &Value)| {
        let tests = parse_tests(&format!("attributes.{name}"), tests)?;
        Ok((name.clone(), tests))
    };
    table.iter().map(parse).collect()
}

fn parse_tests(place: &str, value: &Value) -> Result<Vec<Test>, FilterError> {
    let list = value
        .as_array()
        .ok_or_else(|| shape(place, value, A_LIST))?;
    bounded(place, list.len())?;
    list.iter().map(|test| parse_test(place, test)).collect()
}

fn parse_test(place: &str, value: &Value) -> Result<Test, FilterError> {
    match value {
        Value::Array(_) => Err(shape(place, value, A_LIST)),
        Value::Object(table) => {
            let mut entries = table.iter();
            match (entries.next(), entries.next()) {
                (Some((name, operand)), None) => parse_operator(place, name, operand),
                _ => Err(shape(place, value, A_TEST)),
            }
        }
        scalar => Ok(Test::Equals(scalar.clone())),
    }
}

fn parse_operator(place: &str, name: &str, operand: &Value) -> Result<Test, FilterError> {
    let place = format!("{place}.{name}");
    let text = || match operand.as_str() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(shape(&place, operand, "a text that is not empty")),
    };
    match name {
        "prefix" => Ok(Test::Prefix(text()?)),
        "suffix" => Ok(Test::Suffix(text()?)),
        "equals-ignore-case" => Ok(Test::EqualsIgnoreCase(text()?.to_lowercase())),
        "numeric" => parse_range(&place, operand),
        "exists" => match operand {
            Value::Bool(wanted) => Ok(Test::Exists(*wanted)),
            _ => Err(shape(&place, operand, "`true` or `false`")),
        },
        "anything-but" => parse_anything_but(&place, operand),
        _ => Err(FilterError::UnknownTest {
            place,
            name: name.to_owned(),
        }),
    }
}

/// A value, a list of values and tests, or one test: none of them may hold.
fn parse_anything_but(place: &str, operand: &Value) -> Result<Test, FilterError> {
    let tests = match operand {
        Value::Array(_) => parse_tests(place, operand)?,
        _ => vec![parse_test(place, operand)?],
    };
    let simple = |test: &Test| {
        matches!(
            test,
            Test::Equals(_) | Test::EqualsIgnoreCase(_) | Test::Prefix(_) | Test::Suffix(_)
        )
    };
    if tests.iter().all(simple) {
        Ok(Test::AnythingBut(tests))
    } else {
        Err(shape(
            place,
            operand,
            "values, `prefix`, `suffix` and `equals-ignore-case`",
        ))
    }
}

fn parse_range(place: &str, operand: &Value) -> Result<Test, FilterError> {
    let malformed = || shape(place, operand, A_RANGE);
    let list = operand.as_array().ok_or_else(malformed)?;
    if !matches!(list.len(), 2 | 4) {
        return Err(malformed());
    }
    let mut bounds = Vec::new();
    for pair in list.chunks_exact(2) {
        let comparison = match pair[0].as_str() {
            Some("=") => Comparison::Equal,
            Some("<") => Comparison::Less,
            Some("<=") => Comparison::LessOrEqual,
            Some(">") => Comparison::Greater,
            Some(">=") => Comparison::GreaterOrEqual,
            _ => return Err(malformed()),
        };
        let Value::Number(number) = &pair[1] else {
            return Err(malformed());
        };
        bounds.push((comparison, number.clone()));
    }
    match bounds.as_slice() {
        [_] => {}
        [lower, upper] => check_range(place, operand, lower, upper)?,
        _ => return Err(malformed()),
    }
    Ok(Test::Numeric(bounds))
}

/// Two bounds are a lower one and an upper one above it.
fn check_range(
    place: &str,
    operand: &Value,
    lower: &(Comparison, Number),
    upper: &(Comparison, Number),
) -> Result<(), FilterError> {
    use Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual};
    let closed = match (lower.0, upper.0) {
        (GreaterOrEqual, LessOrEqual) => true,
        (Greater | GreaterOrEqual, Less | LessOrEqual) => false,
        _ => return Err(shape(place, operand, A_RANGE)),
    };
    let (low, high) = (lower.1.as_f64(), upper.1.as_f64());
    if low < high || (closed && low == high) {
        return Ok(());
    }
    Err(FilterError::EmptyRange {
        place: place.to_owned(),
        range: operand.to_string(),
    })
}

fn bounded(place: &str, count: usize) -> Result<(), FilterError> {
    if (1..=MAX_CONDITIONS).contains(&count) {
        return Ok(());
    }
    Err(FilterError::Count {
        place: place.to_owned(),
        count,
    })
}

fn shape(place: &str, found: &Value, expected: &'static str) -> FilterError {
    FilterError::Shape {
        place: place.to_owned(),
        found: found.to_string(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_and_pointers_lead_to_the_same_values() {
        let nested = Filters::parse(&json!({"body": {"order": {"status": ["paid"]}}}));
        let pointer = Filters::parse(&json!({"body": {"/order/status": ["paid"]}}));
        let mixed = Filters::parse(&json!({"body": {"order": {"/status": ["paid"]}}}));
        assert!(nested.is_ok());
        assert_eq!(nested, pointer);
        assert_eq!(nested, mixed);
        let escaped = Filters::parse(&json!({"body": {"/a~1b/m~0n": ["x"]}})).expect("valid");
        let Some(Body::Json(conditions)) = &escaped.0[0].body else {
            panic!("{escaped:?}");
        };
        assert_eq!(conditions[0].0, ["a/b", "m~n"]);
    }

    #[test]
    fn what_cannot_be_matched_is_refused_with_its_place() {
        let long: Vec<u32> = (0..101).collect();
        let cases = [
            (json!("x"), "a filter is a table with `body`"),
            (json!([]), "0 filters, allowed are 1 to 10"),
            (json!({}), "a filter has no condition"),
            (json!({"text": {}}), "`text` is no part of a filter"),
            (json!({"body": {}}), "`body` has 0 conditions"),
            (json!({"body": 1}), "`body` is 1, expected a table"),
            (
                json!({"body": {"a": "x"}}),
                "`body.a` is \"x\", expected a list",
            ),
            (json!({"body": {"a": []}}), "`body.a` has 0 conditions"),
            (json!({"body": {"a": long}}), "`body.a` has 101 conditions"),
            (
                json!({"body": {"a": [["x"]]}}),
                "`body.a` is [\"x\"], expected a list",
            ),
            (
                json!({"body": {"$or": ["x"]}}),
                "`body`: `$or` is not supported",
            ),
            (
                json!({"body": {"a": [{}]}}),
                "`body.a` is {}, expected a table with one test",
            ),
            (
                json!({"body": {"a": [{"prefix": "a", "suffix": "b"}]}}),
                "expected a table with one test",
            ),
            (
                json!({"body": {"a": [{"prefx": "a"}]}}),
                "there is no test `prefx`",
            ),
            (
                json!({"body": {"a": [{"prefix": 1}]}}),
                "`body.a.prefix` is 1, expected a text",
            ),
            (
                json!({"body": {"a": [{"suffix": ""}]}}),
                "`body.a.suffix` is \"\", expected a text",
            ),
            (
                json!({"body": {"a": [{"exists": 1}]}}),
                "`body.a.exists` is 1, expected `true`",
            ),
            (
                json!({"body": {"a": [{"numeric": [">"]}]}}),
                "expected comparisons and numbers",
            ),
            (
                json!({"body": {"a": [{"numeric": [">", "1"]}]}}),
                "expected comparisons",
            ),
            (
                json!({"body": {"a": [{"numeric": ["~", 1]}]}}),
                "expected comparisons",
            ),
            (
                json!({"body": {"a": [{"numeric": ["<", 1, ">", 0]}]}}),
                "expected comparisons",
            ),
            (
                json!({"body": {"a": [{"numeric": [">", 1, "<", 1]}]}}),
                "no number satisfies `numeric` [\">\",1,\"<\",1]",
            ),
            (
                json!({"body": {"a": [{"anything-but": [{"exists": true}]}]}}),
                "`body.a.anything-but` is [{\"exists\":true}], expected values",
            ),
            (
                json!({"attributes": ["x"]}),
                "`attributes` is [\"x\"], expected a table",
            ),
            (
                json!({"attributes": {"k": "x"}}),
                "`attributes.k` is \"x\", expected a list",
            ),
        ];
        for (filter, expected) in cases {
            let error = Filters::parse(&filter).expect_err("refused").to_string();
            assert!(error.contains(expected), "{filter}: {error}");
        }
        let deep = format!("/{}", vec!["a"; 33].join("/"));
        let error = Filters::parse(&json!({"body": {deep: ["x"]}})).expect_err("refused");
        assert!(matches!(error, FilterError::TooDeep { .. }), "{error}");
        let many = vec![json!({"body": ["x"]}); 11];
        assert_eq!(
            Filters::parse(&many.into()),
            Err(FilterError::Filters { count: 11 })
        );
    }
}
