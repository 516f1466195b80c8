//! Budgets in Redis: one script in the tenant's slot does a whole call.

use std::fmt::Write as _;

use super::RedisStore;
use super::change::damaged;
use super::keyspace::Keyspace;
use super::scripts;
use crate::domain::limit::Window;
use crate::domain::name::TenantId;
use crate::store::StoreError;
use crate::store::budgets::{BucketAsk, BucketState, Settle, Settled};

/// What the script answers of one bucket.
const STATE_LEN: usize = 7;

impl RedisStore {
    pub(super) async fn settle_call(
        &self,
        tenant: &TenantId,
        call: &Settle,
    ) -> Result<Settled, StoreError> {
        let key = call.key.as_deref();
        let names: Vec<String> = call
            .buckets
            .iter()
            .map(|ask| name(&self.names, (tenant, call.incarnation), key, ask))
            .collect();
        let mut args = vec![call.cost.to_string(), call.lease_ms.to_string()];
        for ask in &call.buckets {
            push(&mut args, ask);
        }
        let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
        let answer: Vec<i64> = self.link.run(&scripts::SETTLE, &names, &args).await?;
        read(&answer, call.buckets.len()).ok_or_else(|| damaged("a budget's answer"))
    }
}

/// `ks:n:{<tenant>}:rl:t:<incarnation>`, `…:rl:k:<key>`, `…:quota:t:<incarnation>:day:<when it begins>`,
/// `…:quota:k:<key>:month:…`. Keys' ids are never used again; tenants' are, so what is a tenant's names its incarnation.
fn name(
    names: &Keyspace,
    (tenant, incarnation): (&TenantId, u64),
    key: Option<&str>,
    ask: &BucketAsk,
) -> String {
    let mut what = match ask.limit.window() {
        None => "rl".to_owned(),
        Some(_) => "quota".to_owned(),
    };
    match key {
        Some(key) if ask.limit.is_of_key() => {
            what.push_str(":k:");
            what.push_str(key);
        }
        Some(_) | None => {
            write!(what, ":t:{incarnation:x}").expect("writing to a string does not fail");
        }
    }
    if let (Some(window), Some((from, _))) = (ask.limit.window(), ask.terms.window) {
        let window = match window {
            Window::Day => "day",
            Window::Month => "month",
        };
        write!(what, ":{window}:{from}").expect("writing to a string does not fail");
    }
    names.limit(tenant, &what)
}

fn push(args: &mut Vec<String>, ask: &BucketAsk) {
    let terms = &ask.terms;
    let (from, until) = terms.window.unwrap_or((0, 0));
    args.extend([terms.amount, terms.period, terms.burst].map(|number| number.to_string()));
    args.extend([from, until].map(|number| number.to_string()));
    args.push(u8::from(ask.shadow).to_string());
    args.push(ask.debt.to_string());
    match &ask.lease {
        Some(lease) => {
            args.push(lease.holder.clone());
            let numbers = [lease.sequence, lease.spent, lease.target];
            args.extend(numbers.map(|number| number.to_string()));
        }
        None => args.extend(["", "0", "0", "0"].map(str::to_owned)),
    }
}

fn read(answer: &[i64], buckets: usize) -> Option<Settled> {
    let (&charged, rest) = answer.split_first()?;
    let (&now, rest) = rest.split_first()?;
    if charged == -1 {
        return Some(Settled::OtherWindow { now });
    }
    let states: Option<Vec<BucketState>> = rest.chunks(STATE_LEN).map(state).collect();
    let states = states.filter(|states| states.len() == buckets)?;
    Some(Settled::Done {
        now,
        charged: charged == 1,
        buckets: states,
    })
}

fn state(row: &[i64]) -> Option<BucketState> {
    let [fits, numbers @ ..] = row else {
        return None;
    };
    let numbers: Vec<u64> = numbers
        .iter()
        .map(|number| u64::try_from(*number).ok())
        .collect::<Option<_>>()?;
    let [granted, lease_ms, available, retry_ms, reset_ms, reached] = numbers[..] else {
        return None;
    };
    Some(BucketState {
        fits: *fits == 1,
        granted,
        lease_ms,
        available,
        retry_ms,
        reset_ms,
        reached: u8::try_from(reached).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limit::LimitName;
    use crate::store::budgets::Terms;

    #[test]
    fn names_are_in_the_tenants_slot_and_where_a_sidecar_may_write() {
        let names = Keyspace::new("ks:");
        let tenant = TenantId::parse("acme").unwrap();
        let ask = |limit: LimitName| BucketAsk {
            limit,
            terms: Terms {
                amount: 1,
                period: 1,
                burst: 1,
                window: limit.window().map(|_| (5, 6)),
            },
            shadow: false,
            debt: 0,
            lease: None,
        };
        for (limit, expected) in [
            (LimitName::TenantRate, "ks:n:{acme}:rl:t:2a"),
            (LimitName::TenantDay, "ks:n:{acme}:quota:t:2a:day:5"),
            (LimitName::TenantMonth, "ks:n:{acme}:quota:t:2a:month:5"),
            (LimitName::KeyRate, "ks:n:{acme}:rl:k:abc"),
            (LimitName::KeyDay, "ks:n:{acme}:quota:k:abc:day:5"),
            (LimitName::KeyMonth, "ks:n:{acme}:quota:k:abc:month:5"),
        ] {
            let named = name(&names, (&tenant, 42), Some("abc"), &ask(limit));
            assert_eq!(named, expected);
        }
    }

    #[test]
    fn an_answer_of_another_shape_is_damage() {
        assert!(read(&[], 0).is_none());
        assert!(read(&[1, 5, 1, 0, 0, 0, 0, 0], 1).is_none());
        assert!(read(&[1, 5, 1, 0, 0, -4, 0, 0, 0], 1).is_none());
        assert_eq!(read(&[-1, 5], 1), Some(Settled::OtherWindow { now: 5 }));
    }
}
