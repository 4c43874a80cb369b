//! Releases whose version goes back: refused before a vote unless they say `downgrade: true`.
//!
//! Nodes go by `seq` alone; a version is for people, and people must see that it goes back.

use core::cmp::Ordering;

use serde_json::Value;

use crate::statement::Statement;

/// Whether `next` may follow `before` as the releases of one lane.
///
/// # Errors
/// The two versions, if the later one is lower and the release does not say so.
pub fn check(before: &Statement, next: &Statement) -> Result<(), String> {
    let version = |statement: &Statement| -> Option<String> {
        Some(statement.body.get("version")?.as_str()?.to_owned())
    };
    let (Some(old), Some(new)) = (version(before), version(next)) else { return Ok(()) };
    let meant = next.body.get("downgrade") == Some(&Value::Bool(true));
    if meant || compare(&new, &old) != Some(Ordering::Less) {
        return Ok(());
    }
    Err(format!("version {new} is below {old}, and it does not say `downgrade: true`"))
}

/// The order of two versions of dotted numbers, such as `0.10.2`; none if one is something else.
fn compare(one: &str, other: &str) -> Option<Ordering> {
    let numbers = |text: &str| -> Option<Vec<u64>> {
        let core = text.strip_prefix('v').unwrap_or(text);
        let core = core.split(['-', '+']).next()?;
        let mut numbers: Vec<u64> =
            core.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        // 1.0 is 1.0.0.
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        Some(numbers)
    };
    Some(numbers(one)?.cmp(&numbers(other)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_number_by_number() {
        assert_eq!(compare("0.10.0", "0.9.3"), Some(Ordering::Greater));
        assert_eq!(compare("v1.0", "1.0.0-rc1"), Some(Ordering::Equal));
        assert_eq!(compare("1.2", "1.2.1"), Some(Ordering::Less));
        assert_eq!(compare("today", "1.2.1"), None);
    }
}
