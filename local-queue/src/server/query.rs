//! The older AWS query protocol: forms in, XML out. Owns the way between its flattened names and
//! the JSON of the actions, which are the same for both protocols; refuses to know any action.
//! Source: botocore's SQS service model before `awsQueryCompatible` (locationName, flattened,
//! resultWrapper), and the SQS Developer Guide, "Making Query API requests".

use std::collections::BTreeMap;
use std::fmt::Write as _;

use http::{HeaderMap, header};
use serde_json::{Map, Value};

use super::errors::RequestError;
use crate::errors::QueueError;

const NAMESPACE: &str = "http://queue.amazonaws.com/doc/2012-11-05/";
/// `MessageAttribute.1.Value.StringValue` inside of a batch entry is the deepest name.
const MAX_DEPTH: usize = 8;
/// Names of one form; ten entries with ten attributes have a few hundred.
const MAX_FIELDS: usize = 4_096;

/// Lists of texts: `NAME.1`, `NAME.2`, ….
const LISTS: [(&str, &str); 6] = [
    ("AttributeName", "AttributeNames"),
    ("MessageAttributeName", "MessageAttributeNames"),
    ("MessageSystemAttributeName", "MessageSystemAttributeNames"),
    ("TagKey", "TagKeys"),
    ("AWSAccountId", "AWSAccountIds"),
    ("ActionName", "Actions"),
];
/// Maps: `NAME.1.KEY` and `NAME.1.Value`.
const MAPS: [(&str, &str, &str); 4] = [
    ("Attribute", "Attributes", "Name"),
    ("MessageAttribute", "MessageAttributes", "Name"),
    ("MessageSystemAttribute", "MessageSystemAttributes", "Name"),
    ("Tag", "Tags", "Key"),
];
/// Entries of a batch: `NAME.1.FIELD`.
const ENTRIES: [&str; 3] = [
    "SendMessageBatchRequestEntry",
    "DeleteMessageBatchRequestEntry",
    "ChangeMessageVisibilityBatchRequestEntry",
];
/// Members that are numbers in JSON.
const NUMBERS: [&str; 6] = [
    "DelaySeconds",
    "VisibilityTimeout",
    "WaitTimeSeconds",
    "MaxNumberOfMessages",
    "MaxNumberOfMessagesPerSecond",
    "MaxResults",
];

/// A request of the query protocol in the terms of the JSON protocol.
pub(super) struct QueryRequest {
    pub(super) action: String,
    pub(super) input: Vec<u8>,
}

/// Whether a request's body is a form.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"))
}

/// Reads a form. Requests about a queue may name it by the path alone.
pub(super) fn read(path: &str, form: &[u8]) -> Result<QueryRequest, RequestError> {
    let mut tree = Tree::default();
    for (count, (name, value)) in form_urlencoded::parse(form).enumerate() {
        if count >= MAX_FIELDS || name.split('.').count() > MAX_DEPTH {
            return Err(RequestError::Serialization(format!(
                "The parameter {name} is one too many or nested too deeply."
            )));
        }
        tree.insert(&name, value.into_owned());
    }
    let Some(action) = tree.children.remove("Action").and_then(|node| node.text) else {
        return Err(RequestError::Queue(QueueError::MissingParameter("Action")));
    };
    let mut input = tree.object();
    if !input.contains_key("QueueUrl") && path.len() > 1 {
        input.insert("QueueUrl".to_owned(), path.into());
    }
    Ok(QueryRequest {
        action,
        input: Value::Object(input).to_string().into_bytes(),
    })
}

/// Dotted names as a tree.
#[derive(Default)]
struct Tree {
    text: Option<String>,
    children: BTreeMap<String, Tree>,
}

impl Tree {
    fn insert(&mut self, name: &str, value: String) {
        let mut node = self;
        for part in name.split('.') {
            node = node.children.entry(part.to_owned()).or_default();
        }
        node.text = Some(value);
    }

    fn object(self) -> Map<String, Value> {
        self.children
            .into_iter()
            .map(|(name, node)| node.member(name))
            .collect()
    }

    fn member(self, name: String) -> (String, Value) {
        if let Some((_, member)) = LISTS.iter().find(|(list, _)| *list == name) {
            let texts = self.numbered().into_iter().filter_map(|item| item.text);
            return ((*member).to_owned(), texts.map(Value::from).collect());
        }
        if let Some((_, member, key)) = MAPS.iter().find(|(map, ..)| *map == name) {
            return ((*member).to_owned(), Value::Object(self.map(key)));
        }
        if ENTRIES.contains(&name.as_str()) {
            let entries = self.numbered().into_iter();
            let entries = entries.map(|entry| Value::Object(entry.object()));
            return ("Entries".to_owned(), entries.collect());
        }
        let value = match self.text {
            Some(text) if NUMBERS.contains(&name.as_str()) => number(text),
            Some(text) => text.into(),
            None => Value::Object(self.object()),
        };
        (name, value)
    }

    fn map(self, key: &str) -> Map<String, Value> {
        let pairs = self.numbered().into_iter();
        pairs
            .filter_map(|mut pair| {
                let key = pair.children.remove(key)?.text?;
                let value = pair.children.remove("Value").unwrap_or_default();
                let value = match value.text {
                    Some(text) => text.into(),
                    None if value.children.is_empty() => "".into(),
                    None => Value::Object(value.object()),
                };
                Some((key, value))
            })
            .collect()
    }

    /// The children in the order of their numbers.
    fn numbered(self) -> Vec<Self> {
        let children = self.children.into_iter();
        let mut numbered: Vec<(u64, Self)> = children
            .filter_map(|(number, node)| Some((number.parse().ok()?, node)))
            .collect();
        numbered.sort_by_key(|(number, _)| *number);
        numbered.into_iter().map(|(_, node)| node).collect()
    }
}

/// What is no number stays text, which the action refuses.
fn number(text: String) -> Value {
    text.parse::<i64>()
        .map_or_else(|_| Value::String(text), Value::from)
}

/// An action's JSON result as XML.
pub(super) fn success(action: &str, output: &[u8], request_id: &str) -> String {
    let result: Value = serde_json::from_slice(output).unwrap_or_default();
    let mut xml =
        format!("<?xml version=\"1.0\"?><{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>");
    write_members(&mut xml, action, &result);
    push(
        &mut xml,
        format_args!(
            "</{action}Result><ResponseMetadata><RequestId>{request_id}</RequestId>\
             </ResponseMetadata></{action}Response>"
        ),
    );
    xml
}

/// What a refusal is in this protocol's words, where they differ.
pub(super) fn wording(error: &RequestError) -> String {
    match error {
        RequestError::Queue(QueueError::QueueDoesNotExist) => {
            "The specified queue does not exist for this wsdl version.".to_owned()
        }
        other => other.to_string(),
    }
}

/// A refusal as XML.
pub(super) fn failure(fault: &str, code: &str, message: &str, request_id: &str) -> String {
    let mut xml = format!(
        "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>{fault}</Type>\
         <Code>{code}</Code><Message>"
    );
    escape(&mut xml, message);
    push(
        &mut xml,
        format_args!(
            "</Message><Detail/></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        ),
    );
    xml
}

fn write_members(xml: &mut String, action: &str, value: &Value) {
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Array(items) => {
                let element = element_of(action, name);
                for item in items {
                    write_element(xml, action, &element, item);
                }
            }
            Value::Object(map) => match MAPS.iter().find(|(_, member, _)| member == name) {
                Some((element, _, key)) => write_map(xml, action, element, key, map),
                None => write_element(xml, action, name, value),
            },
            scalar => write_element(xml, action, name, scalar),
        }
    }
}

fn write_map(xml: &mut String, action: &str, element: &str, key: &str, map: &Map<String, Value>) {
    for (name, value) in map {
        push(xml, format_args!("<{element}><{key}>"));
        escape(xml, name);
        push(xml, format_args!("</{key}>"));
        write_element(xml, action, "Value", value);
        push(xml, format_args!("</{element}>"));
    }
}

/// What the items of a list are called.
fn element_of(action: &str, member: &str) -> String {
    match member {
        "QueueUrls" | "queueUrls" => "QueueUrl".to_owned(),
        "Messages" => "Message".to_owned(),
        "Failed" => "BatchResultErrorEntry".to_owned(),
        // `SendMessageBatchResultEntry`, `ListMessageMoveTasksResultEntry`.
        _ => format!("{action}ResultEntry"),
    }
}

fn write_element(xml: &mut String, action: &str, name: &str, value: &Value) {
    push(xml, format_args!("<{name}>"));
    match value {
        Value::String(text) => escape(xml, text),
        Value::Object(_) => write_members(xml, action, value),
        other => push(xml, format_args!("{other}")),
    }
    push(xml, format_args!("</{name}>"));
}

fn push(xml: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    xml.write_fmt(text).ok();
}

/// Text as XML. A bare carriage return would be read as a line feed.
fn escape(xml: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\r' => xml.push_str("&#xD;"),
            // An error may repeat what a client sent; XML has no way to write these.
            '\0'..='\x08' | '\x0B' | '\x0C' | '\x0E'..='\x1F' | '\u{FFFE}' | '\u{FFFF}' => {
                xml.push('\u{FFFD}');
            }
            c => xml.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

    use serde_json::json;

    use super::*;

    fn check(form: &str, action: &str, expected: &Value) {
        let request = read("/000000000000/q", form.as_bytes()).ok().unwrap();
        let input: Value = serde_json::from_slice(&request.input).unwrap();
        assert_eq!((request.action.as_str(), &input), (action, expected));
    }

    #[test]
    fn flattened_names_become_lists_maps_and_numbers() {
        check(
            "Action=ReceiveMessage&MaxNumberOfMessages=10&AttributeName.1=All&AttributeName.10=c\
             &AttributeName.2=b&QueueUrl=http%3A%2F%2Fh%2F000000000000%2Fq",
            "ReceiveMessage",
            &json!({
                "MaxNumberOfMessages": 10, "AttributeNames": ["All", "b", "c"],
                "QueueUrl": "http://h/000000000000/q",
            }),
        );
        check(
            "Action=CreateQueue&QueueName=q&Attribute.1.Name=DelaySeconds&Attribute.1.Value=5\
             &Tag.1.Key=team&Tag.1.Value=a+b",
            "CreateQueue",
            &json!({
                "QueueName": "q", "Attributes": {"DelaySeconds": "5"}, "Tags": {"team": "a b"},
                "QueueUrl": "/000000000000/q",
            }),
        );
        check(
            "Action=AddPermission&Label=l&AWSAccountId.1=1&AWSAccountId.2=2&ActionName.1=SendMessage",
            "AddPermission",
            &json!({
                "Label": "l", "AWSAccountIds": ["1", "2"], "Actions": ["SendMessage"],
                "QueueUrl": "/000000000000/q",
            }),
        );
        check(
            "Action=SendMessageBatch&SendMessageBatchRequestEntry.1.Id=a\
             &SendMessageBatchRequestEntry.1.DelaySeconds=x\
             &SendMessageBatchRequestEntry.1.MessageAttribute.1.Name=n\
             &SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.DataType=String\
             &SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.StringValue=v",
            "SendMessageBatch",
            &json!({
                "Entries": [{
                    "Id": "a", "DelaySeconds": "x",
                    "MessageAttributes": {"n": {"DataType": "String", "StringValue": "v"}},
                }],
                "QueueUrl": "/000000000000/q",
            }),
        );
    }

    #[test]
    fn forms_without_action_or_with_too_much_are_refused() {
        for form in ["", "QueueName=q", &"a.".repeat(20), &"a&".repeat(5_000)] {
            assert!(read("/", form.as_bytes()).is_err(), "{form:.20}");
        }
    }

    #[test]
    fn results_are_flattened_and_escaped() {
        let output = json!({
            "Messages": [{
                "Body": "<a&\r\n\">", "Attributes": {"SenderId": "1"},
                "MessageAttributes": {"n": {"DataType": "String", "StringValue": "v"}},
            }],
        });
        let xml = success("ReceiveMessage", output.to_string().as_bytes(), "id");
        let expected = "<ReceiveMessageResult><Message>\
             <Attribute><Name>SenderId</Name><Value>1</Value></Attribute>\
             <Body>&lt;a&amp;&#xD;\n&quot;&gt;</Body>\
             <MessageAttribute><Name>n</Name><Value><DataType>String</DataType>\
             <StringValue>v</StringValue></Value></MessageAttribute></Message>\
             </ReceiveMessageResult><ResponseMetadata><RequestId>id</RequestId>";
        assert!(xml.contains(expected), "{xml}");
        let output = json!({
            "Failed": [{"Id": "b", "SenderFault": true}], "Successful": [{"Id": "a"}],
        });
        let xml = success("DeleteMessageBatch", output.to_string().as_bytes(), "id");
        let expected = "<BatchResultErrorEntry><Id>b</Id><SenderFault>true</SenderFault>\
             </BatchResultErrorEntry><DeleteMessageBatchResultEntry><Id>a</Id>\
             </DeleteMessageBatchResultEntry>";
        assert!(xml.contains(expected), "{xml}");
    }
}
