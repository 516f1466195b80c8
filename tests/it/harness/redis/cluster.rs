//! A Redis Cluster of three primaries, each with a replica.

use std::ops::RangeInclusive;

use super::{Options, RedisServer, fields};
use crate::harness::{free_port, wait_for};

const PRIMARIES: usize = 3;

/// A node that is silent for this long is held to be down.
const NODE_TIMEOUT_MS: u32 = 1_000;

#[derive(Debug)]
pub(crate) struct RedisCluster {
    nodes: Vec<RedisServer>,
}

/// A slot on its way from one primary to another.
#[derive(Debug)]
pub(crate) struct Move {
    slot: String,
    from: Node,
    to: Node,
}

/// A line of CLUSTER NODES.
#[derive(Debug)]
struct Node {
    id: String,
    port: u16,
    slots: Vec<RangeInclusive<u16>>,
}

impl RedisCluster {
    pub(crate) fn start() -> Self {
        let nodes: Vec<_> = (0..2 * PRIMARIES).map(|_| start_node()).collect();
        let addresses: Vec<_> = nodes.iter().map(RedisServer::address).collect();
        let mut create = vec!["--cluster", "create", "--cluster-yes"];
        create.extend(["--cluster-replicas", "1"]);
        create.extend(addresses.iter().map(String::as_str));
        nodes[0].cli(&create);
        let cluster = Self { nodes };
        wait_for("the cluster to be whole", || {
            let in_sync = |node: &&RedisServer| node.is_replica_in_sync();
            let replicas = cluster.nodes.iter().filter(in_sync).count();
            (replicas == PRIMARIES && cluster.is_serving()).then_some(())
        });
        cluster
    }

    /// Of all nodes, those that were killed among them.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// One command, sent to whichever node has its key.
    #[track_caller]
    pub(crate) fn cli(&self, args: &[&str]) -> String {
        self.any().cli(&[&["-c"], args].concat())
    }

    pub(crate) fn slot_of(&self, key: &str) -> u16 {
        let slot = self.any().cli(&["CLUSTER", "KEYSLOT", key]);
        slot.parse().expect("a slot is a number")
    }

    pub(crate) fn primary_of(&self, key: &str) -> &RedisServer {
        let owner = owner(self.any(), self.slot_of(key)).expect("each slot has an owner");
        self.at(owner.port)
    }

    /// SIGKILL to the node that serves the key.
    pub(crate) fn kill_primary_of(&mut self, key: &str) {
        let port = self.primary_of(key).port;
        let mut nodes = self.nodes.iter_mut();
        let primary = nodes.find(|node| node.port == port);
        primary.expect("it is one of ours").kill();
    }

    /// Waits until all nodes agree on a living primary for the key and serve again.
    pub(crate) fn wait_for_failover(&self, key: &str) {
        let slot = self.slot_of(key);
        wait_for("a failover", || {
            let moved = |node| owner(node, slot).is_some_and(|owner| self.is_alive(owner.port));
            (self.running().all(moved) && self.is_serving()).then_some(())
        });
    }

    /// Begins to move the key's slot: its keys stay where they are, new ones go to another primary by ASK.
    pub(crate) fn start_move(&self, key: &str) -> Move {
        let slot = self.slot_of(key);
        let primaries = nodes(self.any()).into_iter();
        let primaries = primaries.filter(|node| !node.slots.is_empty());
        let (mut from, mut to): (Vec<_>, Vec<_>) = primaries.partition(|node| node.has(slot));
        let moving = Move {
            slot: slot.to_string(),
            from: from.pop().expect("each slot has an owner"),
            to: to.pop().expect("there are three primaries"),
        };
        self.set_slot(&moving.to, &moving, &["IMPORTING", &moving.from.id]);
        self.set_slot(&moving.from, &moving, &["MIGRATING", &moving.to.id]);
        moving
    }

    /// Takes the keys over and waits until all nodes know.
    pub(crate) fn finish_move(&self, moving: &Move) {
        let (from, port) = (self.at(moving.from.port), moving.to.port.to_string());
        loop {
            let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", &moving.slot, "100"]);
            if keys.is_empty() {
                break;
            }
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.lines());
            from.cli(&migrate);
        }
        // The new owner first: until it knows, nobody else may send clients there.
        for node in [&moving.to, &moving.from] {
            self.set_slot(node, moving, &["NODE", &moving.to.id]);
        }
        let slot = moving.slot.parse().expect("a slot is a number");
        wait_for("all nodes to know the slot's owner", || {
            let knows = |node| owner(node, slot).is_some_and(|owner| owner.port == moving.to.port);
            self.running().all(knows).then_some(())
        });
    }

    fn set_slot(&self, node: &Node, moving: &Move, state: &[&str]) {
        let set = ["CLUSTER", "SETSLOT", &moving.slot];
        self.at(node.port).cli(&[&set, state].concat());
    }

    fn running(&self) -> impl Iterator<Item = &RedisServer> {
        self.nodes.iter().filter(|node| node.is_running())
    }

    fn any(&self) -> &RedisServer {
        self.running().next().expect("a node lives")
    }

    fn at(&self, port: u16) -> &RedisServer {
        let node = self.nodes.iter().find(|node| node.port == port);
        node.expect("it is one of ours")
    }

    fn is_alive(&self, port: u16) -> bool {
        self.running().any(|node| node.port == port)
    }

    /// Whether every living node knows an owner of each slot and would answer.
    fn is_serving(&self) -> bool {
        self.running().all(|node| {
            let info = fields(&node.cli(&["CLUSTER", "INFO"]));
            info["cluster_state"] == "ok" && info["cluster_slots_ok"] == "16384"
        })
    }
}

fn start_node() -> RedisServer {
    let bus = free_port();
    let more =
        format!("cluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout {NODE_TIMEOUT_MS}");
    RedisServer::start_with(Options {
        more: &more,
        ..Options::default()
    })
}

/// The cluster as a node sees it.
fn nodes(seen_by: &RedisServer) -> Vec<Node> {
    let text = seen_by.cli(&["CLUSTER", "NODES"]);
    text.lines().filter_map(Node::parse).collect()
}

/// The primary that a node holds to have the slot.
fn owner(seen_by: &RedisServer, slot: u16) -> Option<Node> {
    nodes(seen_by).into_iter().find(|node| node.has(slot))
}

impl Node {
    /// `id ip:port@bus flags primary ping pong epoch link slot…`; a slot that moves is in brackets as well.
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, _) = words.get(1)?.split_once('@')?;
        let slots = words.get(8..)?.iter().filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse().ok()?..=last.parse().ok()?)
        });
        Some(Self {
            id: words[0].to_owned(),
            port: address.rsplit_once(':')?.1.parse().ok()?,
            slots: slots.collect(),
        })
    }

    fn has(&self, slot: u16) -> bool {
        self.slots.iter().any(|range| range.contains(&slot))
    }
}
