//! Which passwords an account may have.

use std::ops::RangeInclusive;

use crate::credentials::{Password, Username};

/// How many characters a password has.
const LENGTH: RangeInclusive<usize> = 10..=128;

/// Passwords that are tried first, in lower case, a line each. Only such as the
/// other rules let pass.
const COMMON: &str = include_str!("common-passwords.txt");

/// Why a password is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Weak {
    #[error("a password has {} to {} characters", LENGTH.start(), LENGTH.end())]
    Length,
    #[error("a password must not contain the username")]
    ContainsName,
    #[error("a password must not be one character repeated")]
    Repeated,
    #[error("a password must not be a simple run such as `abcdefghij` or `9876543210`")]
    Run,
    #[error("this password is among the most common ones")]
    Common,
}

/// Whether an account of this name may have this password.
pub(crate) fn check(password: &Password, username: &Username) -> Result<(), Weak> {
    if !LENGTH.contains(&password.text().chars().count()) {
        return Err(Weak::Length);
    }
    let folded = password.text().to_lowercase();
    if folded.contains(username.text()) {
        return Err(Weak::ContainsName);
    }
    if folded.chars().all(|c| folded.starts_with(c)) {
        return Err(Weak::Repeated);
    }
    if is_run(&folded, 1) || is_run(&folded, -1) {
        return Err(Weak::Run);
    }
    if COMMON.lines().any(|common| common == folded) {
        return Err(Weak::Common);
    }
    Ok(())
}

/// Whether each character is the next one (or the one before) of its alphabet,
/// from whose end it goes on at the start.
fn is_run(text: &str, step: i32) -> bool {
    let follows = |(a, b): (char, char)| {
        let alphabet = match a {
            '0'..='9' => '0'..='9',
            'a'..='z' => 'a'..='z',
            _ => return b as i32 == a as i32 + step,
        };
        let (first, last) = (*alphabet.start() as i32, *alphabet.end() as i32);
        b as i32 == (a as i32 - first + step).rem_euclid(last - first + 1) + first
    };
    text.chars().zip(text.chars().skip(1)).all(follows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(password: &str) -> Result<(), Weak> {
        let bob = Username::parse("bob").ok().unwrap();
        check(&password.into(), &bob)
    }

    #[test]
    fn a_password_is_judged_by_its_rule() {
        let longest = "aé".repeat(64);
        for (password, expected) in [
            ("correct horse", Ok(())),
            ("ten chars!", Ok(())),
            ("zehnÄÖÜßöä", Ok(())),
            (&longest, Ok(())),
            ("", Err(Weak::Length)),
            ("ninechars", Err(Weak::Length)),
            ("ÄÖÜäöüßéè", Err(Weak::Length)),
            (&format!("{longest}x"), Err(Weak::Length)),
            ("xxBoBxxxxxxx", Err(Weak::ContainsName)),
            ("aaaaaaaaaa", Err(Weak::Repeated)),
            ("aAaAaAaAaA", Err(Weak::Repeated)),
            ("éééééééééé", Err(Weak::Repeated)),
            ("abcdefghij", Err(Weak::Run)),
            ("zyxwvutsrq", Err(Weak::Run)),
            ("0123456789", Err(Weak::Run)),
            ("1234567890", Err(Weak::Run)),
            ("0987654321", Err(Weak::Run)),
            ("56789012345678", Err(Weak::Run)),
            ("uvwxyzABCDEF", Err(Weak::Run)),
            ("абвгдежзий", Err(Weak::Run)),
            ("abcdefghik", Ok(())),
            ("Password123", Err(Weak::Common)),
            ("qwertyuiop", Err(Weak::Common)),
        ] {
            assert_eq!(verdict(password), expected, "{password}");
        }
    }

    #[test]
    fn the_list_holds_what_only_the_list_refuses() {
        let lines: Vec<_> = COMMON.lines().collect();
        assert!(lines.len() >= 200);
        assert!(lines.is_sorted_by(|a, b| a < b), "sorted, each once");
        for line in lines {
            assert_eq!(line, line.to_lowercase());
            assert_eq!(verdict(line), Err(Weak::Common), "{line}");
        }
    }

    #[test]
    fn a_refusal_tells_the_rule_and_not_the_password() {
        let rule = Weak::Length.to_string();
        assert_eq!(rule, "a password has 10 to 128 characters");
    }
}
