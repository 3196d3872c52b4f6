//! Adds up orders: a customer in the first line, then a quantity and a price in
//! cents in each. A plain program: it knows neither Gristmill nor a queue.

use std::io::{Read, stdin};
use std::process::exit;

/// What sysexits.h calls these; to Gristmill the second means "try again".
const EX_DATAERR: i32 = 65;
const EX_TEMPFAIL: i32 = 75;

fn main() {
    if std::env::var("PAUSED").is_ok_and(|paused| !paused.is_empty()) {
        eprintln!("paused");
        exit(EX_TEMPFAIL);
    }
    let mut order = String::new();
    if let Err(error) = stdin().read_to_string(&mut order) {
        reject(&format!("not text: {error}"));
    }
    match total(&order) {
        Ok((customer, cents)) => println!("{}: {customer} owes {cents} cents", id()),
        Err(reason) => reject(&reason),
    }
}

fn id() -> String {
    std::env::var("GRISTMILL_MESSAGE_ID").unwrap_or_else(|_| "an order".to_owned())
}

fn reject(reason: &str) -> ! {
    eprintln!("{reason}");
    exit(EX_DATAERR)
}

fn total(order: &str) -> Result<(&str, u64), String> {
    let mut lines = order.lines();
    let customer = lines.next().unwrap_or_default().trim();
    if customer.is_empty() {
        return Err("the first line names no customer".to_owned());
    }
    let mut cents = 0_u64;
    for (number, line) in (2..).zip(lines) {
        cents = amount(line)
            .and_then(|amount| cents.checked_add(amount))
            .ok_or_else(|| format!("line {number}: `{line}` is no quantity and price"))?;
    }
    Ok((customer, cents))
}

fn amount(line: &str) -> Option<u64> {
    let (quantity, price) = line.trim().split_once(' ')?;
    let (quantity, price): (u64, u64) = (quantity.parse().ok()?, price.parse().ok()?);
    quantity.checked_mul(price)
}
