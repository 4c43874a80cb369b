//! Which fields a statement may name as critical.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use borgios_policy::fixture::{Council, statement};
use borgios_policy::{Admission, Freshness, Lane, Recovery, Ruling, Statement};
use borgios_types::{Digest, SecretKey, Seq};

/// A board names a field so that programs which do not know it refuse the policy; those which do must
/// not.
#[test]
fn every_field_of_a_policy_may_be_critical() {
    let council = Council::new(3, 2, 1, 1);
    let mut policy = council.policy(2);
    policy.witnesses = Some(1);
    policy.freshness = Some(Freshness { beacons: 1, max_age_s: 3_600 });
    policy.pause_s = Some(0);
    policy.admission = Some(Admission::default());
    let group = SecretKey::from_seed([9; 32]).public();
    policy.recovery = Some(Recovery { group, silence_s: 1, lock_s: 1 });
    policy.rulings = vec![Ruling::new(Lane::Access, Seq(7), None)];
    policy.unites = [Digest::of(b"another")].into();
    policy.recovers = Some(Digest::of(b"a network"));
    let body = policy.to_body();
    let fields: Vec<String> = body.as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields.len(), 12, "fields of a policy: {fields:?}");
    let first = Some(Digest::of(b"policy/1"));
    for field in fields {
        let mut draft = statement(Lane::Policy, 2, first, first, Some(1), body.clone());
        draft.critical = vec![field.clone()];
        let read = Statement::parse(&draft.to_envelope());
        assert!(read.is_ok(), "{field}: {read:?}");
    }
}
