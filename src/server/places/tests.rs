//! Who gets a place when there are few.

use std::net::Ipv4Addr;

use super::*;
use crate::config::{HumanDuration, Ops, SocketMode, UnixSocket};

const MAX: usize = 16;

fn peer(number: u8) -> Peer {
    Peer::at(Ipv4Addr::new(10, 0, 0, number).into())
}

fn places(room: usize) -> Arc<Places> {
    places_where_idle_ones_give_way_after(room, Duration::from_secs(3600))
}

fn places_where_idle_ones_give_way_after(room: usize, gives_way_after: Duration) -> Arc<Places> {
    let unix_socket = UnixSocket {
        mode: SocketMode(0o600),
        group: None,
    };
    let config = Ops {
        listen: Vec::new(),
        unix_socket,
        tls: None,
        insecure: false,
        max_connections: MAX,
        idle_timeout: HumanDuration(Duration::from_secs(60)),
    };
    let bounds = Bounds {
        gives_way_after,
        ..Bounds::ops(&config)
    };
    let process = Arc::new(Budget::new(1 << 20, None));
    Places::new(bounds, &process, &Arc::new(Descriptors::with_room(room)))
}

fn served(place: Place) -> Place {
    place.activity.begin();
    place.activity.serve();
    place.activity.end();
    place
}

fn busy(place: Place) -> Place {
    let place = served(place);
    place.activity.begin();
    place
}

fn is_open(place: &Place) -> bool {
    !place.gives_way.is_cancelled()
}

#[test]
fn whoever_comes_when_all_are_at_work_is_refused_at_once() {
    let places = places(1000);
    let all: Vec<_> = (0..MAX)
        .filter_map(|number| {
            places
                .take(peer(u8::try_from(number).unwrap() % 4))
                .map(busy)
        })
        .collect();
    assert_eq!(all.len(), MAX);
    assert!(places.take(peer(0)).is_none());
    assert_eq!(
        places.counts[Reason::Full as usize].load(Ordering::Relaxed),
        1
    );
    assert!(places.take(peer(9)).is_none());
    assert!(all.iter().all(is_open));
    drop(all);
    assert!(places.take(peer(9)).is_some());
    assert!(places.state.lock().by_peer.len() <= 1);
}

#[test]
fn strangers_who_say_nothing_keep_nobody_out() {
    let places = places(1000);
    let silent: Vec<_> = std::iter::from_fn(|| places.take(peer(66)))
        .take(MAX - MAX / KEPT_SHARE)
        .collect();
    assert!(silent.iter().all(is_open));
    let envoy = busy(places.take(peer(1)).expect("the first stranger gives way"));
    assert!(!is_open(&silent[0]) && silent[1..].iter().all(is_open));
    assert!(is_open(&envoy));
}

#[test]
fn who_has_been_served_finds_a_place_among_strangers_that_keep_busy() {
    let places = places(1000);
    drop(served(places.take(peer(1)).unwrap()));
    let strangers: Vec<_> = std::iter::from_fn(|| places.take(peer(66)))
        .take(MAX * 2)
        .inspect(|place| place.activity.begin())
        .collect();
    assert_eq!(strangers.len(), MAX - MAX / KEPT_SHARE);
    assert!(places.take(peer(2)).is_some(), "who holds most gives way");
    assert!(places.take(peer(1)).is_some(), "a place was kept");
}

#[test]
fn the_idle_give_way_and_those_at_work_do_not() {
    let places = places_where_idle_ones_give_way_after(1000, Duration::ZERO);
    let idle = served(places.take(peer(1)).unwrap());
    let mut others: Vec<_> = (0..MAX - 1)
        .map(|_| busy(places.take(peer(1)).unwrap()))
        .collect();
    others.push(busy(places.take(peer(2)).expect("the idle one gives way")));
    assert!(!is_open(&idle) && others.iter().all(is_open));
    drop(idle);
    assert_eq!(places.state.lock().open.len(), MAX, "it had gone already");
}

#[test]
fn peers_that_share_all_places_and_keep_busy_lock_out_nobody_who_has_few() {
    let places = places(1000);
    let all: Vec<_> = (0..MAX)
        .map(|number| {
            busy(
                places
                    .take(peer(66 + u8::try_from(number).unwrap() % 3))
                    .unwrap(),
            )
        })
        .collect();
    assert!(places.take(peer(66)).is_none(), "it has its share");
    let come = busy(places.take(peer(1)).expect("the greediest gives way"));
    let _next = busy(places.take(peer(2)).expect("and again"));
    assert_eq!(all.iter().filter(|place| !is_open(place)).count(), 2);
    assert!(is_open(&come));
}

#[test]
fn a_peer_that_holds_more_than_its_share_gives_way_to_another_and_not_to_itself() {
    let places = places(1000);
    let greedy: Vec<_> = (0..MAX)
        .map(|_| busy(places.take(peer(66)).unwrap()))
        .collect();
    assert!(places.take(peer(66)).is_none());
    let other = places.take(peer(1));
    assert!(other.is_some());
    assert_eq!(greedy.iter().filter(|place| !is_open(place)).count(), 1);
}

#[test]
fn without_descriptors_only_who_takes_over_a_place_comes_in() {
    let places = places(3);
    let all: Vec<_> = (0..3)
        .map(|_| busy(places.take(peer(1)).unwrap()))
        .collect();
    assert!(places.take(peer(2)).is_none());
    let refused = &places.counts[Reason::Descriptors as usize];
    assert_eq!(refused.load(Ordering::Relaxed), 1);
    drop(all);
    assert!(places.take(peer(2)).is_some());
}
