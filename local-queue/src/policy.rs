//! A queue's access policy, as `AddPermission` and `RemovePermission` change it. Owns the form of
//! its statements; refuses to know who may do what: everyone who reaches the endpoint may.
//! Source: SQS API Reference, `AddPermission`, `RemovePermission`; IAM User Guide, "JSON policy
//! elements".

use serde_json::{Value, json};

use crate::errors::QueueError;
use crate::model::is_plain_id;

/// Statements of a policy (SQS Developer Guide, "policy quotas").
const MAX_STATEMENTS: usize = 20;
/// Actions of a statement (SQS API Reference, `AddPermission`).
const MAX_ACTIONS: usize = 7;
/// What may be allowed to others.
const ACTIONS: [&str; 9] = [
    "*",
    "ChangeMessageVisibility",
    "DeleteMessage",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
    "PurgeQueue",
    "ReceiveMessage",
    "SendMessage",
];
/// What only a queue's owner may do.
const OWNERS_ACTIONS: [&str; 12] = [
    "AddPermission",
    "CancelMessageMoveTask",
    "CreateQueue",
    "DeleteQueue",
    "ListMessageMoveTasks",
    "ListQueues",
    "ListQueueTags",
    "RemovePermission",
    "SetQueueAttributes",
    "StartMessageMoveTask",
    "TagQueue",
    "UntagQueue",
];

/// A permission to add.
#[derive(Clone, Debug)]
pub struct Permission {
    /// Names it within the policy: 1 to 80 letters, digits, hyphens and underscores.
    pub label: String,
    /// Account numbers of 12 digits.
    pub account_ids: Vec<String>,
    /// Actions without their prefix, or `*`.
    pub actions: Vec<String>,
}

impl Permission {
    /// Checks what does not depend on the queue.
    pub(crate) fn check(&self) -> Result<(), QueueError> {
        if self.account_ids.is_empty() {
            return Err(QueueError::MissingParameter("AWSAccountIds"));
        }
        if self.actions.is_empty() {
            return Err(QueueError::MissingParameter("Actions"));
        }
        if !is_plain_id(&self.label) {
            return Err(QueueError::parameter(
                "Label",
                &self.label,
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in \
                 length.",
            ));
        }
        let is_account = |id: &String| id.len() == 12 && id.bytes().all(|b| b.is_ascii_digit());
        if let Some(id) = self.account_ids.iter().find(|id| !is_account(id)) {
            return Err(QueueError::parameter(
                "PrincipalId",
                format!("[{id}]"),
                "Unable to verify.",
            ));
        }
        self.check_actions()
    }

    fn check_actions(&self) -> Result<(), QueueError> {
        if self.actions.len() > MAX_ACTIONS {
            return Err(QueueError::PolicyTooLarge {
                what: "Actions",
                found: self.actions.len(),
                limit: MAX_ACTIONS,
            });
        }
        for action in &self.actions {
            let reason = match action.as_str() {
                action if ACTIONS.contains(&action) => continue,
                action if OWNERS_ACTIONS.contains(&action) => {
                    "Only the queue owner is allowed to invoke this action."
                }
                _ => "Please refer to the appropriate WSDL for a list of valid actions.",
            };
            let value = format!("SQS:{action}");
            return Err(QueueError::parameter("ActionName", value, reason));
        }
        Ok(())
    }

    fn statement(&self, arn: &str) -> Value {
        let principals = self.account_ids.iter();
        let principals = principals.map(|id| format!("arn:aws:iam::{id}:root"));
        let actions = self.actions.iter().map(|action| format!("SQS:{action}"));
        json!({
            "Sid": self.label,
            "Effect": "Allow",
            "Principal": { "AWS": one_or_list(principals) },
            "Action": one_or_list(actions),
            "Resource": arn,
        })
    }
}

/// A list of one is written without brackets.
fn one_or_list(texts: impl Iterator<Item = String>) -> Value {
    let mut texts: Vec<Value> = texts.map(Value::from).collect();
    match texts.len() {
        1 => texts.remove(0),
        _ => texts.into(),
    }
}

/// The policy with a permission more.
pub(crate) fn add(
    policy: Option<&str>,
    permission: &Permission,
    arn: &str,
) -> Result<String, QueueError> {
    let (mut policy, mut statements) = read(policy, arn)?;
    if position(&statements, &permission.label).is_some() {
        let label = &permission.label;
        return Err(QueueError::parameter("Label", label, "Already exists."));
    }
    statements.push(permission.statement(arn));
    if statements.len() > MAX_STATEMENTS {
        return Err(QueueError::PolicyTooLarge {
            what: "Statements",
            found: statements.len(),
            limit: MAX_STATEMENTS,
        });
    }
    policy["Statement"] = statements.into();
    Ok(policy.to_string())
}

/// The policy without a permission; `None` when it was the last one.
pub(crate) fn remove(
    policy: Option<&str>,
    label: &str,
    arn: &str,
) -> Result<Option<String>, QueueError> {
    let (mut policy, mut statements) = read(policy, arn)?;
    let Some(place) = position(&statements, label) else {
        return Err(QueueError::parameter("Label", label, "can't find label."));
    };
    statements.remove(place);
    let is_last = statements.is_empty();
    policy["Statement"] = statements.into();
    Ok((!is_last).then(|| policy.to_string()))
}

/// Refuses what is no policy at all; what its statements mean is nobody's business here.
pub(crate) fn check(policy: &str) -> Result<(), QueueError> {
    let parsed: Option<Value> = serde_json::from_str(policy).ok();
    let statements = parsed.as_ref().and_then(|policy| policy.get("Statement"));
    let is_policy = match statements {
        Some(Value::Array(all)) => !all.is_empty() && all.iter().all(Value::is_object),
        Some(one) => one.is_object(),
        None => false,
    };
    if is_policy {
        return Ok(());
    }
    Err(QueueError::attribute(
        crate::attributes::POLICY,
        "it must be a JSON object with at least one object in `Statement`",
    ))
}

/// A policy and its statements, or an empty one.
fn read(policy: Option<&str>, arn: &str) -> Result<(Value, Vec<Value>), QueueError> {
    let Some(text) = policy else {
        let id = format!("{arn}/SQSDefaultPolicy");
        return Ok((json!({ "Version": "2008-10-17", "Id": id }), Vec::new()));
    };
    check(text)?;
    let mut policy: Value = serde_json::from_str(text).unwrap_or_default();
    let statements = match policy["Statement"].take() {
        Value::Array(statements) => statements,
        one => vec![one],
    };
    Ok((policy, statements))
}

fn position(statements: &[Value], label: &str) -> Option<usize> {
    statements
        .iter()
        .position(|statement| statement["Sid"] == label)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

    use super::*;

    const ARN: &str = "arn:aws:sqs:us-east-1:000000000000:q";

    fn permission(label: &str, accounts: &[&str], actions: &[&str]) -> Permission {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Permission {
            label: label.to_owned(),
            account_ids: owned(accounts),
            actions: owned(actions),
        }
    }

    #[test]
    fn statements_come_and_go_by_their_labels() {
        let one = permission("one", &["111111111111"], &["SendMessage"]);
        let two = permission("two", &["111111111111", "222222222222"], &["*"]);
        let policy = add(None, &one, ARN).unwrap();
        let expected = json!({
            "Version": "2008-10-17", "Id": format!("{ARN}/SQSDefaultPolicy"),
            "Statement": [{
                "Sid": "one", "Effect": "Allow", "Action": "SQS:SendMessage", "Resource": ARN,
                "Principal": {"AWS": "arn:aws:iam::111111111111:root"},
            }],
        });
        assert_eq!(serde_json::from_str::<Value>(&policy).unwrap(), expected);
        let twice = add(Some(&policy), &one, ARN).unwrap_err().to_string();
        assert_eq!(
            twice,
            "Value one for parameter Label is invalid. Reason: Already exists."
        );
        let both = add(Some(&policy), &two, ARN).unwrap();
        let left = remove(Some(&both), "one", ARN).unwrap().unwrap();
        let left: Value = serde_json::from_str(&left).unwrap();
        assert_eq!(left["Statement"][0]["Sid"], "two");
        assert_eq!(
            left["Statement"][0]["Principal"]["AWS"][1],
            "arn:aws:iam::222222222222:root"
        );
        let none = remove(Some(&policy), "one", ARN).unwrap();
        assert_eq!(none, None);
        for policy in [None, Some(policy.as_str())] {
            let missing = remove(policy, "none", ARN).unwrap_err().to_string();
            assert!(missing.ends_with("Reason: can't find label."), "{missing}");
        }
    }

    #[test]
    fn a_policy_of_ones_own_keeps_what_it_says() {
        let own = r#"{"Statement":{"Sid":"mine","Effect":"Deny"},"Version":"2012-10-17"}"#;
        let more = add(Some(own), &permission("p", &["111111111111"], &["*"]), ARN).unwrap();
        let left = remove(Some(&more), "p", ARN).unwrap().unwrap();
        let left: Value = serde_json::from_str(&left).unwrap();
        let statement = json!([{ "Sid": "mine", "Effect": "Deny" }]);
        assert_eq!(
            (&left["Statement"], &left["Version"]),
            (&statement, &json!("2012-10-17"))
        );
        for bad in [
            "",
            "x",
            "[]",
            "{}",
            r#"{"Statement":[]}"#,
            r#"{"Statement":[1]}"#,
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn policies_are_bounded() {
        let mut policy = None;
        for n in 0..MAX_STATEMENTS {
            let next = permission(&n.to_string(), &["111111111111"], &["*"]);
            policy = Some(add(policy.as_deref(), &next, ARN).unwrap());
        }
        let next = permission("more", &["111111111111"], &["*"]);
        let refused = add(policy.as_deref(), &next, ARN).unwrap_err().to_string();
        assert_eq!(refused, "21 Statements were found, maximum allowed is 20.");
        let many = permission("l", &["111111111111"], &["SendMessage"; 8]);
        assert!(matches!(
            many.check(),
            Err(QueueError::PolicyTooLarge { found: 8, .. })
        ));
    }

    #[test]
    fn permissions_are_checked() {
        let check = |label: &str, account: &str, action: &str, reason: Option<&str>| {
            let refused = permission(label, &[account], &[action]).check().err();
            let refused = refused.map(|error| error.to_string());
            let fits = match (&refused, reason) {
                (None, None) => true,
                (Some(refused), Some(reason)) => refused.contains(reason),
                _ => false,
            };
            assert!(fits, "{label} {account} {action}: {refused:?}");
        };
        check("a-b_1", "123456789012", "*", None);
        check("a b", "123456789012", "*", Some("parameter Label"));
        check("a", "12345678901x", "*", Some("Unable to verify"));
        check(
            "a",
            "123456789012",
            "DeleteQueue",
            Some("Only the queue owner"),
        );
        check(
            "a",
            "123456789012",
            "Nonsense",
            Some("Value SQS:Nonsense for"),
        );
        assert!(permission("a", &[], &["*"]).check().is_err());
        assert!(permission("a", &["123456789012"], &[]).check().is_err());
    }
}
