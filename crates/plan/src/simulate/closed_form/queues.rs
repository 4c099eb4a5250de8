//! Queues with one service at a time per server.
//!
//! Kleinrock, "Queueing Systems, Volume 1", 1975: sections 3.2 (M/M/1), 3.5 (M/M/c) and 5.6 (M/G/1).

use crate::simulate::error::{SimulateError, at_least_one, not_negative, positive};

/// A queue in the long run. Requests come at random (Poisson) and are served in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Queue {
    /// Mean share of servers that are busy, below 1.
    pub utilisation: f64,
    /// Share of requests that wait at all.
    pub share_waiting: f64,
    /// Mean seconds from arrival to the start of service.
    pub wait_s: f64,
    /// Mean seconds from arrival to the end of service.
    pub latency_s: f64,
    /// Mean requests that wait.
    pub mean_queued: f64,
    /// Mean requests that wait or are served.
    pub mean_present: f64,
}

/// One server, exponential service times of mean `service_s`, `per_s` requests a second.
///
/// # Errors
///
/// Where an argument is not positive and finite, or the server is overloaded.
pub fn mm1(per_s: f64, service_s: f64) -> Result<Queue, SimulateError> {
    mg1(per_s, service_s, 1.0)
}

/// One server, service times of any distribution with mean `service_s` and coefficient of variation `variation`: the
/// mean wait is ρ·S·(1 + c²) / (2·(1 − ρ)) (Pollaczek 1930, Khinchine 1932).
///
/// # Errors
///
/// Where an argument is not positive and finite (`variation` may be 0), or the server is overloaded.
pub fn mg1(per_s: f64, service_s: f64, variation: f64) -> Result<Queue, SimulateError> {
    let load = offered("M/G/1", per_s, service_s)?;
    let variation = not_negative("M/G/1", "variation", variation)?;
    let utilisation = below_one(load)?;
    let wait_s = load * service_s * (1.0 + variation * variation) / (2.0 * (1.0 - load));
    Ok(queue(per_s, service_s, utilisation, load, wait_s))
}

/// `servers` with one queue, exponential service times of mean `service_s`. The share that waits is Erlang's C, by way
/// of his B, whose recursion B(c) = a·B(c−1) / (c + a·B(c−1)) neither overflows nor cancels.
///
/// # Errors
///
/// Where an argument is not positive and finite, or the servers are overloaded.
pub fn mmc(per_s: f64, service_s: f64, servers: u32) -> Result<Queue, SimulateError> {
    let load = offered("M/M/c", per_s, service_s)?;
    at_least_one("M/M/c", "servers", servers)?;
    let utilisation = below_one(load / f64::from(servers))?;
    let blocked = (1..=servers).fold(1.0, |b, c| load * b / (f64::from(c) + load * b));
    let waits = blocked / (1.0 - utilisation * (1.0 - blocked));
    let wait_s = waits * service_s / (f64::from(servers) * (1.0 - utilisation));
    Ok(queue(per_s, service_s, utilisation, waits, wait_s))
}

fn offered(place: &str, per_s: f64, service_s: f64) -> Result<f64, SimulateError> {
    Ok(positive(place, "per_s", per_s)? * positive(place, "service_s", service_s)?)
}

pub(super) fn below_one(utilisation: f64) -> Result<f64, SimulateError> {
    if utilisation < 1.0 { Ok(utilisation) } else { Err(SimulateError::Overloaded { utilisation }) }
}

fn queue(per_s: f64, service_s: f64, utilisation: f64, share_waiting: f64, wait_s: f64) -> Queue {
    let latency_s = wait_s + service_s;
    // Little's law, twice.
    let (mean_queued, mean_present) = (per_s * wait_s, per_s * latency_s);
    Queue { utilisation, share_waiting, wait_s, latency_s, mean_queued, mean_present }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let near =
            |found: f64, known: f64| assert!((found - known).abs() < 1e-9 * known, "{found}, not {known}");
        near(mm1(0.8, 1.0).unwrap().mean_present, 4.0);
        near(mg1(0.8, 1.0, 0.0).unwrap().wait_s, 2.0);
        // Two servers at a load of 1 Erlang: one request in three waits.
        near(mmc(1.0, 1.0, 2).unwrap().share_waiting, 1.0 / 3.0);
        near(mmc(0.8, 1.0, 1).unwrap().wait_s, mm1(0.8, 1.0).unwrap().wait_s);
        // 100 servers at 90 Erlang, by the textbook sum.
        let terms: Vec<f64> = (1..=100)
            .scan(1.0, |t, n| {
                *t *= 90.0 / f64::from(n);
                Some(*t)
            })
            .collect();
        let last = terms[99] / (1.0 - 0.9);
        near(
            mmc(90.0, 1.0, 100).unwrap().share_waiting,
            last / (1.0 + terms[..99].iter().sum::<f64>() + last),
        );
    }

    #[test]
    fn wrong_arguments_are_named() {
        assert_eq!(mm1(2.0, 0.5), Err(SimulateError::Overloaded { utilisation: 1.0 }));
        for (result, name) in [
            (mm1(0.0, 1.0), "per_s is 0"),
            (mm1(1.0, f64::NAN), "service_s is NaN"),
            (mg1(1.0, 0.1, -1.0), "variation is -1"),
            (mmc(1.0, 0.1, 0), "servers is 0"),
        ] {
            let said = result.unwrap_err().to_string();
            assert!(said.contains(name), "{said}");
        }
    }
}
