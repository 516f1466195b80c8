//! Who has which slots of a cluster.

use redis::Value;
use redis::cluster_async::ClusterConnection;

use super::connect::ConnectError;
use super::settings::{Address, Settings, Topology};

/// Slots of a cluster, from the first to the last, and the primary that has them.
pub(super) type Range = (u16, u16, Address);

/// The slots of a cluster, by the word of one of its nodes.
pub(super) async fn cluster_ranges(
    settings: &Settings,
    mut cluster: ClusterConnection,
) -> Result<Vec<Range>, ConnectError> {
    let mut ask = redis::cmd("CLUSTER");
    ask.arg("SLOTS");
    let asked = ask.query_async::<Vec<Vec<Value>>>(&mut cluster);
    let ranges = match tokio::time::timeout(settings.response_timeout, asked).await {
        Ok(ranges) => ranges?,
        Err(_) => return Err(ConnectError::Timeout),
    };
    Ok(ranges
        .iter()
        .filter_map(|range| {
            // first slot, last slot, primary, replicas…
            let first = redis::from_redis_value_ref(range.first()?).ok()?;
            let last = redis::from_redis_value_ref(range.get(1)?).ok()?;
            let Value::Array(node) = range.get(2)? else {
                return None;
            };
            Some((first, last, node_address(settings, node)?))
        })
        .collect())
}

/// Where a node is: endpoint, port, id, more about it. An endpoint that is null or empty is that of whoever answered,
/// which is where we asked; of `?` nothing is known but what else there may be.
fn node_address(settings: &Settings, node: &[Value]) -> Option<Address> {
    let port: u16 = redis::from_redis_value_ref(node.get(1)?).ok()?;
    let endpoint: Option<String> = redis::from_redis_value_ref(node.first()?).ok()?;
    let host = match endpoint.filter(|endpoint| !endpoint.is_empty()) {
        Some(unknown) if unknown == "?" => ip_of(node.get(3)?)?,
        Some(host) => host,
        None => asked_host(settings, port)?,
    };
    Some(Address::Tcp { host, port })
}

/// The host of the configured node with that port, or of the first.
fn asked_host(settings: &Settings, port: u16) -> Option<String> {
    let Topology::Cluster { nodes } = &settings.topology else {
        return None;
    };
    let hosts = || {
        nodes.iter().filter_map(|node| match node {
            Address::Tcp { host, port } => Some((host, *port)),
            Address::Unix(_) => None,
        })
    };
    let same_port = hosts().find(|(_, of_node)| *of_node == port);
    same_port
        .or_else(|| hosts().next())
        .map(|(host, _)| host.clone())
}

/// The address among the names of a node.
fn ip_of(names: &Value) -> Option<String> {
    let pairs: Vec<(String, String)> = match names {
        Value::Map(pairs) => pairs
            .iter()
            .map(|(name, value)| {
                let read = |value| redis::from_redis_value_ref(value).ok();
                Some((read(name)?, read(value)?))
            })
            .collect::<Option<_>>()?,
        other => redis::from_redis_value_ref(other).ok()?,
    };
    let ip = pairs.into_iter().find(|(name, _)| name == "ip");
    ip.map(|(_, ip)| ip).filter(|ip| !ip.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_node_without_an_endpoint_is_where_it_was_asked() {
        let at = |host: &str, port| Address::Tcp {
            host: host.to_owned(),
            port,
        };
        let settings = Settings {
            topology: Topology::Cluster {
                nodes: vec![at("one", 7000), at("two", 7001)],
            },
            ..Settings::standalone(at("unused", 1))
        };
        let ip = Value::Map(vec![(text("ip"), text("10.0.0.9"))]);
        let listed = Value::Array(vec![text("ip"), text("10.0.0.9")]);
        for (endpoint, port, more, expected) in [
            (text("named"), 7001, Value::Nil, Some(at("named", 7001))),
            (Value::Nil, 7001, Value::Nil, Some(at("two", 7001))),
            (Value::Nil, 7009, ip.clone(), Some(at("one", 7009))),
            (text(""), 7000, Value::Nil, Some(at("one", 7000))),
            (text("?"), 7000, ip, Some(at("10.0.0.9", 7000))),
            (text("?"), 7000, listed, Some(at("10.0.0.9", 7000))),
            (text("?"), 7000, Value::Nil, None),
        ] {
            let node = [endpoint, Value::Int(port), text("id"), more];
            assert_eq!(node_address(&settings, &node), expected, "{node:?}");
        }
    }
}
