//! Which messages a component wants: its filters, matched against body and custom
//! attributes. Pure: what becomes of the others is the consumer's to do.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::message::{AttributeValue, CustomAttribute, Received};
use crate::app::{Body, Comparison, Filter, Filters, Test};

/// A value that tests are put to.
enum Tested<'a> {
    /// A value of a JSON body.
    Json(&'a Value),
    /// A text: the body, or an attribute of type `String`.
    Text(&'a str),
    /// An attribute of type `Number`, and what it says.
    Number(&'a str, Option<Number>),
    /// Something that only `exists` is a question for.
    Opaque,
}

impl Filters {
    /// Whether one of them matches `message`.
    pub(super) fn matches(&self, message: &Received) -> bool {
        // Parsed once, and only where a filter looks into it.
        let json = self
            .0
            .iter()
            .any(|filter| matches!(filter.body, Some(Body::Json(_))))
            .then(|| serde_json::from_str::<Value>(&message.body).ok())
            .flatten();
        let matches = |filter: &Filter| filter.matches(message, json.as_ref());
        self.0.iter().any(matches)
    }
}

impl Filter {
    fn matches(&self, message: &Received, json: Option<&Value>) -> bool {
        let body = match &self.body {
            None => true,
            Some(Body::Text(tests)) => any_holds(tests, &[Tested::Text(&message.body)]),
            // What is not JSON has no values to match, nor any to miss.
            Some(Body::Json(conditions)) => json.is_some_and(|json| {
                conditions.iter().all(|(pointer, tests)| {
                    let mut found = Vec::new();
                    collect(json, pointer, &mut found);
                    any_holds(tests, &found)
                })
            }),
        };
        body && self.attributes.iter().all(|(name, tests)| {
            let attribute = message.custom.iter().find(|a| a.name == *name);
            let found: Vec<Tested<'_>> = attribute.map(tested).into_iter().collect();
            any_holds(tests, &found)
        })
    }
}

/// The values at `pointer`. A number picks an element of a list; any other token,
/// and the end, means each of its elements.
fn collect<'a>(value: &'a Value, pointer: &[String], found: &mut Vec<Tested<'a>>) {
    match (value, pointer.split_first()) {
        (Value::Array(list), None) => {
            found.extend(list.iter().map(Tested::Json));
            if list.is_empty() {
                found.push(Tested::Opaque);
            }
        }
        (value, None) => found.push(Tested::Json(value)),
        (Value::Object(members), Some((name, rest))) => {
            if let Some(member) = members.get(name) {
                collect(member, rest, found);
            }
        }
        (Value::Array(list), Some((token, rest))) => match token.parse::<usize>() {
            Ok(index) => {
                if let Some(element) = list.get(index) {
                    collect(element, rest, found);
                }
            }
            Err(_) => {
                for element in list {
                    collect(element, pointer, found);
                }
            }
        },
        _ => {}
    }
}

fn tested(attribute: &CustomAttribute) -> Tested<'_> {
    let kind = attribute.data_type.split('.').next().unwrap_or_default();
    match (&attribute.value, kind) {
        (AttributeValue::Binary(_), _) => Tested::Opaque,
        (AttributeValue::Text(text), "Number") => Tested::Number(text, number(text)),
        (AttributeValue::Text(text), _) => Tested::Text(text),
    }
}

/// SQS allows forms that JSON does not, such as `+1` and `.5`.
fn number(text: &str) -> Option<Number> {
    let text = text.trim();
    text.parse::<i64>()
        .map(Number::from)
        .or_else(|_| text.parse::<u64>().map(Number::from))
        .ok()
        .or_else(|| text.parse().ok().and_then(Number::from_f64))
}

/// Whether one of `tests` holds for one of the values that were found.
fn any_holds(tests: &[Test], found: &[Tested<'_>]) -> bool {
    tests.iter().any(|test| match test {
        Test::Exists(wanted) => *wanted != found.is_empty(),
        test => found.iter().any(|value| holds(test, value)),
    })
}

fn holds(test: &Test, value: &Tested<'_>) -> bool {
    match test {
        Test::Exists(wanted) => *wanted,
        Test::Equals(wanted) => equals(wanted, value),
        Test::EqualsIgnoreCase(wanted) => value
            .text()
            .is_some_and(|text| text.to_lowercase() == *wanted),
        Test::Prefix(prefix) => value.text().is_some_and(|text| text.starts_with(prefix)),
        Test::Suffix(suffix) => value.text().is_some_and(|text| text.ends_with(suffix)),
        Test::Numeric(bounds) => value.number().is_some_and(|number| {
            let within = |(comparison, bound)| satisfies(number, comparison, bound);
            bounds.iter().map(|(c, bound)| (*c, bound)).all(within)
        }),
        Test::AnythingBut(tests) => {
            value.is_scalar() && !tests.iter().any(|test| holds(test, value))
        }
    }
}

impl Tested<'_> {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Json(value) => value.as_str(),
            Self::Text(text) | Self::Number(text, _) => Some(text),
            Self::Opaque => None,
        }
    }

    fn number(&self) -> Option<&Number> {
        match self {
            Self::Json(Value::Number(number)) => Some(number),
            Self::Number(_, number) => number.as_ref(),
            _ => None,
        }
    }

    fn is_scalar(&self) -> bool {
        match self {
            Self::Json(value) => !value.is_object() && !value.is_array(),
            Self::Text(_) | Self::Number(..) => true,
            Self::Opaque => false,
        }
    }
}

fn equals(wanted: &Value, value: &Tested<'_>) -> bool {
    match wanted {
        Value::String(wanted) => value.text() == Some(wanted),
        Value::Number(wanted) => value
            .number()
            .is_some_and(|number| compare(number, wanted) == Some(Ordering::Equal)),
        wanted => matches!(value, Tested::Json(value) if *value == wanted),
    }
}

fn satisfies(number: &Number, comparison: Comparison, bound: &Number) -> bool {
    compare(number, bound).is_some_and(|ordering| match comparison {
        Comparison::Equal => ordering.is_eq(),
        Comparison::Less => ordering.is_lt(),
        Comparison::LessOrEqual => ordering.is_le(),
        Comparison::Greater => ordering.is_gt(),
        Comparison::GreaterOrEqual => ordering.is_ge(),
    })
}

/// Whole numbers exactly, others as doubles.
fn compare(a: &Number, b: &Number) -> Option<Ordering> {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::json;

    use super::super::message::Receipt;
    use super::*;

    fn message(body: &str, custom: Vec<CustomAttribute>) -> Received {
        Received {
            id: "id".to_owned(),
            receipt: Receipt("receipt".to_owned()),
            body: body.to_owned(),
            system: Vec::new(),
            custom,
            receive_count: 1,
            at: Instant::now(),
        }
    }

    fn text(name: &str, data_type: &str, value: &str) -> CustomAttribute {
        CustomAttribute {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            value: AttributeValue::Text(value.to_owned()),
        }
    }

    #[track_caller]
    fn check(filter: &Value, message: &Received, expected: bool) {
        let filters = Filters::parse(filter).unwrap_or_else(|e| panic!("{filter}: {e}"));
        assert_eq!(
            filters.matches(message),
            expected,
            "{filter} on {message:?}"
        );
    }

    /// The tests of one value, and whether they hold for it.
    #[track_caller]
    fn value(tests: &Value, value: &Value, expected: bool) {
        let body = json!({"v": value}).to_string();
        check(
            &json!({"body": {"v": tests}}),
            &message(&body, vec![]),
            expected,
        );
    }

    #[test]
    fn values_of_every_kind_are_equal_to_themselves_alone() {
        let values = [
            json!("a"),
            json!(""),
            json!(1),
            json!(true),
            json!(false),
            json!(null),
        ];
        for wanted in &values {
            for found in &values {
                value(&json!([wanted]), found, wanted == found);
            }
        }
        value(&json!([1]), &json!(1.0), true);
        value(&json!([1]), &json!("1"), false);
        value(&json!(["1"]), &json!(1), false);
        value(&json!([u64::MAX]), &json!(u64::MAX), true);
        value(&json!([u64::MAX]), &json!(u64::MAX - 1), false);
        value(&json!(["a"]), &json!({"a": 1}), false);
    }

    #[test]
    fn texts_begin_and_end() {
        value(&json!([{"prefix": "or"}]), &json!("order"), true);
        value(&json!([{"prefix": "or"}]), &json!("Order"), false);
        value(&json!([{"prefix": "1"}]), &json!(12), false);
        value(&json!([{"suffix": "er"}]), &json!("order"), true);
        value(&json!([{"suffix": "or"}]), &json!("order"), false);
        value(
            &json!([{"equals-ignore-case": "ÄRGER"}]),
            &json!("Ärger"),
            true,
        );
        value(&json!([{"equals-ignore-case": "a"}]), &json!("ab"), false);
    }

    #[test]
    fn numbers_lie_in_ranges() {
        let cases = [
            (json!(["=", 5]), 5.0, true),
            (json!(["=", 5]), 5.5, false),
            (json!(["<", 5]), 5.0, false),
            (json!(["<", 5]), 4.9, true),
            (json!(["<=", 5]), 5.0, true),
            (json!([">", 5]), 5.0, false),
            (json!([">", 5]), 5.1, true),
            (json!([">=", 5]), 5.0, true),
            (json!([">", 0, "<=", 5]), 0.0, false),
            (json!([">", 0, "<=", 5]), 5.0, true),
            (json!([">=", 0, "<", 5]), 0.0, true),
            (json!([">=", 0, "<", 5]), 5.0, false),
            (json!([">=", -2.5, "<=", -2.5]), -2.5, true),
        ];
        for (range, number, expected) in cases {
            value(&json!([{"numeric": range}]), &json!(number), expected);
        }
        value(&json!([{"numeric": ["=", 5]}]), &json!("5"), false);
        // Neighbours that are one number as doubles.
        let large = 9_007_199_254_740_993_i64;
        value(&json!([{"numeric": [">", large - 1]}]), &json!(large), true);
        value(&json!([{"numeric": [">", large]}]), &json!(large), false);
    }

    #[test]
    fn what_is_there_exists_and_what_is_not_does_not() {
        for there in [json!(null), json!(0), json!({}), json!([]), json!({"a": 1})] {
            value(&json!([{"exists": true}]), &there, true);
            value(&json!([{"exists": false}]), &there, false);
        }
        let other = message("{\"w\": 1}", vec![]);
        check(&json!({"body": {"v": [{"exists": true}]}}), &other, false);
        check(&json!({"body": {"v": [{"exists": false}]}}), &other, true);
        // Absent, or this.
        check(
            &json!({"body": {"v": [{"exists": false}, "x"]}}),
            &other,
            true,
        );
        value(&json!([{"exists": false}, "x"]), &json!("x"), true);
        value(&json!([{"exists": false}, "x"]), &json!("y"), false);
    }

    #[test]
    fn anything_but_is_any_other_value_that_is_there() {
        value(&json!([{"anything-but": "a"}]), &json!("b"), true);
        value(&json!([{"anything-but": "a"}]), &json!("a"), false);
        value(&json!([{"anything-but": "a"}]), &json!(1), true);
        value(&json!([{"anything-but": ["a", 1]}]), &json!(1), false);
        value(&json!([{"anything-but": ["a", 1]}]), &json!("b"), true);
        value(
            &json!([{"anything-but": {"prefix": "a"}}]),
            &json!("ab"),
            false,
        );
        value(
            &json!([{"anything-but": [{"suffix": "b"}, "c"]}]),
            &json!("ab"),
            false,
        );
        value(
            &json!([{"anything-but": [{"suffix": "b"}, "c"]}]),
            &json!("d"),
            true,
        );
        value(&json!([{"anything-but": "a"}]), &json!({"a": 1}), false);
        let other = message("{}", vec![]);
        check(
            &json!({"body": {"v": [{"anything-but": "a"}]}}),
            &other,
            false,
        );
    }

    #[test]
    fn lists_of_a_body_match_by_any_element_and_pointers_pick_one() {
        value(&json!(["b"]), &json!(["a", "b"]), true);
        value(&json!(["c"]), &json!(["a", "b"]), false);
        value(&json!(["c"]), &json!([]), false);
        let body = json!({"items": [{"sku": "a"}, {"sku": "b"}], "": 1, "0": "zero"}).to_string();
        let body = message(&body, vec![]);
        let cases = [
            ("/items/0/sku", "a", true),
            ("/items/1/sku", "a", false),
            ("/items/2/sku", "a", false),
            ("/items/sku", "b", true),
            ("/items/sku", "c", false),
            ("/0", "zero", true),
        ];
        for (pointer, wanted, expected) in cases {
            check(&json!({"body": {pointer: [wanted]}}), &body, expected);
        }
        check(&json!({"body": {"/": [1]}}), &body, true);
        check(
            &json!({"body": {"items": {"0": {"sku": ["a"]}}}}),
            &body,
            true,
        );
    }

    #[test]
    fn keys_are_joined_by_and_lists_by_or_filters_by_or() {
        let body = message("{\"a\": 1, \"b\": {\"c\": 2}}", vec![]);
        check(&json!({"body": {"a": [1], "b": {"c": [2]}}}), &body, true);
        check(&json!({"body": {"a": [1], "b": {"c": [3]}}}), &body, false);
        check(&json!({"body": {"a": [0, 1]}}), &body, true);
        check(
            &json!([{"body": {"a": [0]}}, {"body": {"a": [1]}}]),
            &body,
            true,
        );
        check(
            &json!([{"body": {"a": [0]}}, {"body": {"a": [2]}}]),
            &body,
            false,
        );
        check(
            &json!({"body": {"a": [1]}, "attributes": {"k": ["x"]}}),
            &body,
            false,
        );
    }

    #[test]
    fn a_body_that_is_not_json_matches_as_text_alone() {
        for body in ["", "plain", "{\"v\": 1"] {
            let body = message(body, vec![]);
            check(&json!({"body": {"v": [{"exists": false}]}}), &body, false);
            check(&json!({"body": {"v": [{"exists": true}]}}), &body, false);
        }
        check(
            &json!({"body": ["ping", "plain"]}),
            &message("plain", vec![]),
            true,
        );
        check(
            &json!({"body": [{"prefix": "{"}]}),
            &message("{\"v\": 1}", vec![]),
            true,
        );
        check(&json!({"body": ["1"]}), &message("1", vec![]), true);
        check(&json!({"body": [1]}), &message("1", vec![]), false);
        // JSON, but no object: there are no members.
        check(
            &json!({"body": {"v": [{"exists": false}]}}),
            &message("7", vec![]),
            true,
        );
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        check(
            &json!({"body": {"v": [{"exists": false}]}}),
            &message(&deep, vec![]),
            false,
        );
    }

    #[test]
    fn attributes_match_by_their_types() {
        let blob = CustomAttribute {
            name: "blob".to_owned(),
            data_type: "Binary".to_owned(),
            value: AttributeValue::Binary(vec![1]),
        };
        let custom = vec![
            text("kind", "String", "invoice"),
            text("size", "Number", "+12.50"),
            text("id", "Number.long", "9007199254740993"),
            text("digits", "String", "7"),
            blob,
        ];
        let message = message("x", custom);
        let cases = [
            ("kind", json!(["invoice"]), true),
            ("kind", json!([{"prefix": "inv"}, "x"]), true),
            ("kind", json!([{"anything-but": ["invoice"]}]), false),
            ("Kind", json!(["invoice"]), false),
            ("size", json!([12.5]), true),
            ("size", json!([{"numeric": [">", 12, "<", 13]}]), true),
            ("size", json!(["+12.50"]), true),
            ("id", json!([9_007_199_254_740_993_i64]), true),
            ("id", json!([9_007_199_254_740_992_i64]), false),
            ("digits", json!([7]), false),
            ("digits", json!([{"numeric": ["=", 7]}]), false),
            ("blob", json!([{"exists": true}]), true),
            ("blob", json!([{"anything-but": "x"}]), false),
            ("none", json!([{"exists": false}]), true),
            ("none", json!([{"anything-but": "x"}]), false),
        ];
        for (name, tests, expected) in cases {
            check(&json!({"attributes": {name: tests}}), &message, expected);
        }
    }
}
