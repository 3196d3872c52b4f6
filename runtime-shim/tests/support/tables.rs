//! DynamoDB tables by the service's JSON protocol.

use serde_json::{Value, json};

use super::aws_call;

/// A table as Spin's key-value backend expects it.
pub fn create_table(endpoint: &str, table: &str) {
    call(
        endpoint,
        "CreateTable",
        &json!({
            "TableName": table,
            "AttributeDefinitions": [{"AttributeName": "PK", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "PK", "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
        }),
    );
}

/// One call to DynamoDB.
pub fn call(endpoint: &str, action: &str, body: &Value) -> Value {
    aws_call(endpoint, &format!("DynamoDB_20120810.{action}"), body)
}
