//! Rates and quotas as texts.

use super::*;

#[test]
fn rates_are_read_as_they_are_written() {
    for text in [
        "1/s",
        "100/s",
        "6000/m",
        "1000/h",
        "100/s burst 200",
        "100/s burst 1 shadow",
        "1000000000/h shadow",
    ] {
        assert_eq!(Rate::parse(text).unwrap().to_string(), text);
    }
    let rate = Rate::parse("100/s").unwrap();
    assert_eq!((rate.amount(), rate.burst()), (100, 100));
    assert!(!rate.is_shadow() && rate.in_shadow().is_shadow());
    assert_eq!(
        Rate::parse(" 5/m  burst  5 ").unwrap().to_string(),
        "5/m",
        "blanks and a burst that says nothing new"
    );
}

#[test]
fn what_allows_no_more_is_within() {
    let rate = |text| Rate::parse(text).unwrap();
    for (own, other, within) in [
        ("10/s", "10/s", true),
        ("600/m burst 10", "10/s", true),
        ("600/m", "10/s", false),
        ("11/s burst 1", "10/s", false),
        ("1/s shadow", "10/s", false),
        ("1/s shadow", "10/s shadow", true),
    ] {
        assert_eq!(rate(own).is_within(rate(other)), within, "{own} {other}");
    }
    let quota = |text| Quota::parse(text).unwrap();
    assert!(quota("5/day, 9/month").is_within(quota("5/day")));
    assert!(!quota("5/day").is_within(quota("9/month")));
    assert!(!quota("6/day").is_within(quota("5/day")));
    let none = Limits::default();
    let some = Limits {
        rate: Some(rate("1/s")),
        quota: None,
    };
    assert!(some.is_within(&none) && none.is_within(&none) && !none.is_within(&some));
}

#[test]
fn what_is_no_rate_is_refused() {
    for text in [
        "",
        "100",
        "/s",
        "0/s",
        "-1/s",
        "+1/s",
        "01/s",
        "1.5/s",
        "1/d",
        "1/sec",
        "1/S",
        "1 /s",
        "1000000001/s",
        "1/s burst",
        "1/s burst 0",
        "1/s burst x",
        "1/s burst 2 3",
        "1/s shadow burst 2",
        "1/s shadow shadow",
        "1/s 2/s",
    ] {
        assert!(Rate::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn quotas_are_read_as_they_are_written() {
    for text in [
        "20/day",
        "1000000/month",
        "1000/day, 20000/month",
        "20/day shadow, 100/month",
        "1000000000000/month shadow",
    ] {
        assert_eq!(Quota::parse(text).unwrap().to_string(), text);
    }
    let both = Quota::parse("7/month,5/day").unwrap();
    assert_eq!(both.to_string(), "5/day, 7/month");
    assert_eq!(both.cap(Window::Day).unwrap().amount(), 5);
    let shaded = both.in_shadow();
    assert!(
        Window::ALL
            .iter()
            .all(|window| shaded.cap(*window).unwrap().is_shadow())
    );
}

#[test]
fn what_is_no_quota_is_refused() {
    for text in [
        "",
        ",",
        "20",
        "0/day",
        "20/days",
        "20/week",
        "20/day,",
        "20/day, 30/day",
        "20/day 30/month",
        "20/day shadow shadow",
        "1000000000001/day",
    ] {
        assert!(Quota::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_tenant_keeps_lifts_or_replaces_the_limit_of_its_plan() {
    let plan = Rate::parse("10/s").unwrap();
    let own = |text| Own::parse(text, Rate::parse).unwrap();
    assert_eq!(own("").over(Some(plan)), Some(plan));
    assert_eq!(own("unlimited").over(Some(plan)), None);
    assert_eq!(own("20/s").over(Some(plan)).unwrap().amount(), 20);
    assert_eq!(own("unlimited").to_string(), "unlimited");
    assert!(Own::parse("none", Rate::parse).is_err());
}
