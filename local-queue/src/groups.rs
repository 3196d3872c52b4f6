//! The message groups of one FIFO queue: which of them may be received from, and where each
//! begins. Owns who blocks whom; refuses to know SQL and time. Memory is bounded by groups that
//! hold messages and by messages in flight, never by depth.
//! Source: SQS Developer Guide, "FIFO delivery logic": while a message of a group is in flight,
//! no other message of the group is delivered.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_name: HashMap<Arc<str>, Group>,
    /// Groups without a message in flight, by their first message.
    free: BTreeMap<i64, Arc<str>>,
    /// The group of each message in flight.
    in_flight: HashMap<i64, Arc<str>>,
}

#[derive(Debug)]
struct Group {
    /// The sequence number of the first message.
    head: i64,
    in_flight: usize,
}

impl Groups {
    /// A message came in; in any order, so that a database can be read in any order.
    pub(crate) fn add(&mut self, group: &str, seq: i64) {
        match self.by_name.get(group).map(|group| group.head) {
            None => {
                let name: Arc<str> = group.into();
                let fresh = Group {
                    head: seq,
                    in_flight: 0,
                };
                self.by_name.insert(name.clone(), fresh);
                self.free.insert(seq, name);
            }
            Some(head) if seq < head => self.set_head(group, Some(seq)),
            Some(_) => {}
        }
    }

    /// A message is in flight: its group is blocked.
    pub(crate) fn begin(&mut self, group: &str, seq: i64) {
        let Some((name, state)) = self
            .by_name
            .get_key_value(group)
            .map(|(name, _)| name.clone())
            .zip(self.by_name.get_mut(group))
        else {
            return;
        };
        if self.in_flight.insert(seq, name).is_none() {
            state.in_flight += 1;
            self.free.remove(&state.head);
        }
    }

    /// A message is not in flight any more: deleted, or visible again.
    pub(crate) fn end(&mut self, seq: i64) {
        let Some(name) = self.in_flight.remove(&seq) else {
            return;
        };
        if let Some(group) = self.by_name.get_mut(&name) {
            group.in_flight -= 1;
            if group.in_flight == 0 {
                self.free.insert(group.head, name);
            }
        }
    }

    pub(crate) fn head(&self, group: &str) -> Option<i64> {
        self.by_name.get(group).map(|group| group.head)
    }

    /// The group begins elsewhere now; `None` when it is empty.
    pub(crate) fn set_head(&mut self, group: &str, head: Option<i64>) {
        let Some(state) = self.by_name.get_mut(group) else {
            return;
        };
        let freed = self.free.remove(&state.head);
        match head {
            Some(head) => {
                state.head = head;
                if let Some(name) = freed {
                    self.free.insert(head, name);
                }
            }
            None => {
                self.by_name.remove(group);
            }
        }
    }

    /// The first group that is not blocked and begins behind `after`.
    pub(crate) fn next_free(&self, after: i64) -> Option<(i64, Arc<str>)> {
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        let (head, name) = self.free.range(behind).next()?;
        Some((*head, name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(groups: &Groups) -> Vec<(i64, String)> {
        let mut all = Vec::new();
        let mut after = 0;
        while let Some((head, name)) = groups.next_free(after) {
            after = head;
            all.push((head, name.to_string()));
        }
        all
    }

    fn check(groups: &Groups, expected: &[(i64, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(n, g)| (*n, (*g).to_owned()))
            .collect();
        assert_eq!(free(groups), expected);
    }

    #[test]
    fn a_group_is_blocked_until_none_of_it_is_in_flight() {
        let mut groups = Groups::default();
        for (group, seq) in [("a", 1), ("a", 2), ("b", 3), ("a", 4)] {
            groups.add(group, seq);
        }
        check(&groups, &[(1, "a"), (3, "b")]);
        groups.begin("a", 1);
        groups.begin("a", 2);
        groups.begin("a", 2);
        check(&groups, &[(3, "b")]);
        groups.end(2);
        groups.add("a", 5);
        check(&groups, &[(3, "b")]);
        // 1 is deleted: the group begins with 2.
        groups.end(1);
        groups.set_head("a", Some(2));
        check(&groups, &[(2, "a"), (3, "b")]);
        groups.set_head("b", None);
        assert_eq!((groups.head("a"), groups.head("b")), (Some(2), None));
        check(&groups, &[(2, "a")]);
    }

    #[test]
    fn messages_are_added_in_any_order() {
        let mut groups = Groups::default();
        groups.add("a", 5);
        groups.begin("a", 5);
        groups.add("a", 2);
        check(&groups, &[]);
        groups.end(5);
        check(&groups, &[(2, "a")]);
        groups.add("a", 1);
        check(&groups, &[(1, "a")]);
    }
}
